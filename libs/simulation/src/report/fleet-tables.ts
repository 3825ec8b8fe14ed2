import type { Change, Comparison } from "../fleet/compare.ts";
import type { FleetReport } from "../fleet/report.ts";
import { changeInWords, dollars, duration, gpuHours, inUnit, percent } from "./words.ts";

/** A table as text: rows of cells, the first row the head. */
export interface Table {
  readonly title: string;
  readonly rows: readonly (readonly string[])[];
}

/** Tenants in a table; the JSON has them all. */
const shownTenants = 30;

/** What a report says, as tables. */
export function fleetTables(report: FleetReport): readonly Table[] {
  const { tasks, fleet, waiting, utilisation, fairness, preemptions } = report;
  const waits = (of: typeof waiting): readonly string[] =>
    [of.meanMs, of.p50Ms, of.p99Ms, of.longestMs].map(duration);
  const models = Object.entries(fleet.models).map(([model, gpus]) => `${gpus} ${model}`);
  const left = Object.entries(tasks.waiting).map(([reason, count]) => `${count} ${reason}`);
  return [
    {
      title: "Run",
      rows: [
        ["fleet", `${fleet.nodes} nodes, ${fleet.gpus} GPUs: ${models.join(", ")}`],
        ["workload", `${report.workload.name}, ${report.workload.tasks} tasks`],
        ["policy", `${report.policyName}, seed ${report.seed}`],
        ["virtual time", duration(report.endMs - report.startMs)],
        ["plans", `${report.plans}, at most one in ${duration(report.settings.cycleMs)}`],
        [
          "tasks",
          `${tasks.succeeded} succeeded, ${tasks.failed} failed${tasks.running > 0 ? `, ${tasks.running} still run` : ""}${left.length > 0 ? `; waiting: ${left.join(", ")}` : ""}${tasks.toCome > 0 ? `; ${tasks.toCome} yet to come` : ""}`,
        ],
        ["GPUs allocated", percent(utilisation.allocated)],
        ["GPUs at useful work", percent(utilisation.useful)],
        ["fragmentation", percent(report.meanFragmentation)],
        ["fairness index", percent(fairness.meanIndex)],
        ["slowdown, mean", report.meanSlowdown.toFixed(2)],
        ["slowdown, worst : best tenant", fairness.slowdownRatio.toFixed(2)],
        ["preemptions", `${preemptions.count}, costing ${gpuHours(preemptions.gpuHours)}`],
        ["run times expected", predictionsInWords(report)],
        ["lost work", gpuHours(report.gpuHours.lost)],
        ["restores", gpuHours(report.gpuHours.restoring)],
        ["faults", faultsInWords(report)],
        ["cost", dollars(report.costNanos)],
      ],
    },
    {
      title: "Waiting",
      rows: [
        ["", "tasks", "mean", "p50", "p99", "longest"],
        ["all, to the first lease", String(waiting.count), ...waits(waiting)],
        ...report.byWidth.map(({ width, waiting: own }) => [
          width,
          String(own.count),
          ...waits(own),
        ]),
        ...untilEnd(report).map(([name, of]) => [name, String(of.count), ...waits(of)]),
      ],
    },
    {
      title: "Tenants",
      rows: [
        [
          "tenant",
          "weight",
          "tasks",
          "wait mean",
          "wait p99",
          "slowdown",
          "held : due",
          "GPU-h",
          "cost",
        ],
        ...report.tenants
          .slice(0, shownTenants)
          .map((tenant) => [
            tenant.tenant,
            String(tenant.weight),
            String(tenant.tasks),
            duration(tenant.waiting.meanMs),
            duration(tenant.waiting.p99Ms),
            tenant.meanSlowdown.toFixed(2),
            tenant.shareOfDue.toFixed(2),
            tenant.gpuHours.toFixed(1),
            dollars(tenant.costNanos),
          ]),
      ],
    },
  ];
}

/** What tasks took that have ended. */
const untilEnd = ({ turnaround, wideTurnaround, delay }: FleetReport) =>
  [
    ["all, submit to end", turnaround],
    ["8 GPUs and more, submit to end", wideTurnaround],
    ["all, submit to end beyond the run time", delay],
  ] as const;

function predictionsInWords({ predictions }: FleetReport): string {
  const { predicted, unpredicted, medianAbsDoublings, p90Coverage } = predictions;
  const of = `${predicted} of ${predicted + unpredicted} runs`;
  if (predicted === 0) return of;
  const off = (2 ** medianAbsDoublings).toFixed(2);
  return `${of}, off by a factor of ${off} in the median, ${percent(p90Coverage)} ended within their p90`;
}

const faultWords: Readonly<Record<keyof FleetReport["faults"], string>> = {
  node_loss: "nodes lost",
  gpu_fault: "GPUs failed",
  disconnect: "disconnections",
  drain: "drains",
};

function faultsInWords({ faults }: FleetReport): string {
  const told = (Object.keys(faultWords) as (keyof typeof faultWords)[])
    .filter((kind) => faults[kind] > 0)
    .map((kind) => `${faults[kind]} ${faultWords[kind]}`);
  return told.length === 0 ? "none" : told.join(", ");
}

/** What changes between two runs, as tables. */
export function comparisonTables(comparison: Comparison): readonly Table[] {
  const { before, after } = comparison;
  const head = ["", before.policyName, after.policyName, "change", "better"];
  const row = (name: string, change: Change): readonly string[] => [
    name,
    inUnit(change.before, change.unit),
    inUnit(change.after, change.unit),
    changeInWords(change.before, change.after, change.unit),
    change.better === undefined ? "" : comparison[change.better].policyName,
  ];
  const of = (list: Comparison["tenants"]): readonly (readonly string[])[] =>
    list
      .slice(0, shownTenants)
      .flatMap(({ of: name, changes }) =>
        changes.map((change) => row(`${name}: ${change.figure}`, change)),
      );
  return [
    {
      title: "Change",
      rows: [head, ...comparison.changes.map((change) => row(change.figure, change))],
    },
    { title: "By width", rows: [head, ...of(comparison.widths)] },
    { title: "By tenant", rows: [head, ...of(comparison.tenants)] },
  ];
}

/** Tables as text with aligned columns; the first says that it is all simulated. */
export function renderTables(
  title: string,
  tables: readonly Table[],
  notes: readonly string[],
): string {
  const parts = tables.map((table) => `${table.title}\n${renderRows(table.rows)}`);
  const told = notes.map((note) => `note: ${note}\n`).join("");
  return `${title} (simulated)\n\n${parts.join("\n")}${told === "" ? "" : `\n${told}`}`;
}

function renderRows(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  }
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) =>
        at === 0 || row.length === 2 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!),
      )
      .join("  ")
      .trimEnd();
  return rows.map((row) => `  ${line(row)}\n`).join("");
}

import type { Comparison } from "../fleet/compare.ts";
import type { FleetReport, FleetSeries } from "../fleet/report.ts";
import { escapeHtml } from "./escape.ts";
import { comparisonTables, fleetTables, type Table } from "./fleet-tables.ts";
import { linePlot, type Series } from "./line-plot.ts";
import { renderPage, renderTable } from "./page.ts";

/** A line that is drawn over time: its name and its value in each bucket. */
type Line = readonly [name: string, values: (series: FleetSeries) => readonly number[]];

const asPercent = (values: readonly number[], of: readonly number[]): readonly number[] =>
  values.map((value, at) => (of[at]! > 0 ? (100 * value) / of[at]! : 0));

/** What is plotted of every run. */
const plots: readonly {
  readonly title: string;
  readonly unit: string;
  readonly lines: readonly Line[];
}[] = [
  {
    title: "Utilisation",
    unit: "% of the GPUs in service",
    lines: [
      ["allocated", (series) => asPercent(series.allocated, series.capacity)],
      ["useful work", (series) => asPercent(series.useful, series.capacity)],
    ],
  },
  {
    title: "Waiting",
    unit: "tasks",
    lines: [["tasks that wait", (series) => series.waitingTasks]],
  },
  {
    title: "Backlog",
    unit: "GPUs asked for by tasks that wait, and GPUs in service",
    lines: [
      ["asked for", (series) => series.waitingGpus],
      ["in service", (series) => series.capacity],
    ],
  },
  {
    title: "Fairness",
    unit: "Jain's index of held over due, over the tenants that want GPUs; 1: everybody has the same part of its due",
    lines: [["index", (series) => series.fairness]],
  },
  {
    title: "Fragmentation",
    unit: "% of the GPUs in service that are free on nodes partly taken",
    lines: [
      ["free on partly taken nodes", (series) => series.fragmentation.map((part) => 100 * part)],
    ],
  },
];

const banner = `<p class="simulated">Simulated: the decisions are the scheduler's own, the fleet, the tasks and their bills are not real.</p>`;

/** The report of a run as one self-contained HTML page. */
export function renderFleetPage(report: FleetReport): string {
  const body = [
    banner,
    notes(report),
    ...fleetTables(report).map(tableSection),
    ...plots.map(({ title, unit, lines }) =>
      plotSection(
        { title, unit },
        lines.map(([name, read], colour) =>
          seriesOf(name, report.series, read(report.series), { colour }),
        ),
      ),
    ),
    shares(report),
  ];
  return renderPage(`${report.title}: ${report.policyName}`, body.join("\n"));
}

/** Two runs beside each other as one self-contained HTML page. */
export function renderComparisonPage(comparison: Comparison): string {
  const { before, after } = comparison;
  const body = [
    banner,
    notes(before),
    ...comparisonTables(comparison).map(tableSection),
    ...plots.map(({ title, unit, lines }) =>
      plotSection(
        { title, unit },
        lines.flatMap(([name, read], at) =>
          [before, after].map(({ policyName, series }, run) =>
            seriesOf(`${name}, ${policyName}`, series, read(series), {
              colour: run,
              dashed: at > 0,
            }),
          ),
        ),
      ),
    ),
    ...[before, after].map(shares),
  ];
  return renderPage(comparison.title, body.join("\n"));
}

function notes({ workload }: FleetReport): string {
  if (workload.notes.length === 0) return "";
  return `<ul>${workload.notes.map((note) => `<li>${escapeHtml(note)}</li>`).join("")}</ul>`;
}

/** A table of two columns has no head: its rows are names and values. */
function tableSection({ title, rows }: Table): string {
  if (rows.length < 2) return "";
  return `<section><h2>${escapeHtml(title)}</h2>${renderTable(rows, { head: rows[0]!.length > 2 })}</section>`;
}

/** A plot with its numbers behind it, for those who cannot or will not read a plot. */
function plotSection(
  { title, unit }: { readonly title: string; readonly unit: string },
  series: readonly Series[],
): string {
  const longest = Math.max(0, ...series.map(({ points }) => points.length));
  const step = Math.max(1, Math.ceil(longest / 24));
  const rows = [["from", ...series.map(({ name }) => name)]];
  for (let at = 0; at < longest; at += step) {
    const x = series.find(({ points }) => points[at] !== undefined)?.points[at]?.x ?? 0;
    const cells = series.map(({ points }) => points[at]?.y.toPrecision(3) ?? "");
    rows.push([`${(x / 3_600_000).toFixed(1)} h`, ...cells]);
  }
  const plot = linePlot({ title, series, times: "elapsed" });
  return `<section><h2>${escapeHtml(title)}</h2><p>${escapeHtml(unit)}</p>${plot}<details><summary>the same in numbers</summary>${renderTable(rows)}</details></section>`;
}

/** What each of the largest tenants holds and is due. */
function shares({ series, policyName }: FleetReport): string {
  const lines = series.tenants.flatMap(({ tenant, held, due }, colour) => [
    seriesOf(tenant, series, held, { colour }),
    seriesOf(`${tenant}, due`, series, due, { colour, dashed: true }),
  ]);
  const title = `Shares, ${policyName}`;
  const unit = "GPUs held by the largest tenants, and what they are due by weight and demand";
  return plotSection({ title, unit }, lines);
}

function seriesOf(
  name: string,
  { bucketMs }: FleetSeries,
  values: readonly number[],
  look: { readonly colour: number; readonly dashed?: boolean },
): Series {
  return { name, points: values.map((y, at) => ({ x: at * bucketMs, y })), ...look };
}

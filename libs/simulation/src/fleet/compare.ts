import type { FleetReport, TenantReport } from "./report.ts";

/** In what a figure is counted: times in milliseconds, money in dollars, parts from 0 to 1. */
export type Unit = "ms" | "part" | "ratio" | "hours" | "dollars" | "count";

/** One figure of two runs. */
export interface Change {
  readonly figure: string;
  readonly unit: Unit;
  readonly before: number;
  readonly after: number;
  /** Which run is better in it; undefined where neither is, or it is no matter of better. */
  readonly better: "before" | "after" | undefined;
}

/** The same figures for one tenant, or one class of width. */
export interface ChangesOf {
  readonly of: string;
  readonly changes: readonly Change[];
}

/** What changes from one run to another of the same workload. Everything in it is simulated. */
export interface Comparison {
  readonly simulated: true;
  readonly title: string;
  readonly before: FleetReport;
  readonly after: FleetReport;
  readonly changes: readonly Change[];
  readonly tenants: readonly ChangesOf[];
  readonly widths: readonly ChangesOf[];
}

type Direction = "less" | "more" | "neither";
type Figure<Of> = readonly [string, Unit, Direction, (of: Of) => number];

const dollars = (nanos: string): number => Number(BigInt(nanos) / 1_000n) / 1e6;

const factorOff = ({ predictions }: FleetReport): number => 2 ** predictions.medianAbsDoublings;

const figures: readonly Figure<FleetReport>[] = [
  ["waiting, mean", "ms", "less", (run) => run.waiting.meanMs],
  ["waiting, p50", "ms", "less", (run) => run.waiting.p50Ms],
  ["waiting, p99", "ms", "less", (run) => run.waiting.p99Ms],
  ["waiting, longest", "ms", "less", (run) => run.waiting.longestMs],
  ["submit to end, mean", "ms", "less", (run) => run.turnaround.meanMs],
  ["submit to end, p99", "ms", "less", (run) => run.turnaround.p99Ms],
  ["submit to end beyond the run time, longest", "ms", "less", (run) => run.delay.longestMs],
  ["slowdown, mean", "ratio", "less", (run) => run.meanSlowdown],
  ["slowdown, worst : best tenant", "ratio", "less", (run) => run.fairness.slowdownRatio],
  ["fairness index", "part", "more", (run) => run.fairness.meanIndex],
  ["GPUs allocated", "part", "more", (run) => run.utilisation.allocated],
  ["GPUs at useful work", "part", "more", (run) => run.utilisation.useful],
  ["fragmentation", "part", "less", (run) => run.meanFragmentation],
  ["expected run times, median factor off", "ratio", "less", factorOff],
  ["preemptions", "count", "neither", (run) => run.preemptions.count],
  ["lost work", "hours", "less", (run) => run.gpuHours.lost],
  ["restores", "hours", "less", (run) => run.gpuHours.restoring],
  ["tasks ended", "count", "more", (run) => run.tasks.succeeded + run.tasks.failed],
  ["cost", "dollars", "less", (run) => dollars(run.costNanos)],
  ["end of the run", "ms", "less", (run) => run.endMs - run.startMs],
];

const tenantFigures: readonly Figure<TenantReport>[] = [
  ["waiting, mean", "ms", "less", (tenant) => tenant.waiting.meanMs],
  ["waiting, p99", "ms", "less", (tenant) => tenant.waiting.p99Ms],
  ["slowdown, mean", "ratio", "less", (tenant) => tenant.meanSlowdown],
  ["held : due", "ratio", "neither", (tenant) => tenant.shareOfDue],
  ["cost", "dollars", "less", (tenant) => dollars(tenant.costNanos)],
];

/** Figures closer than this part of themselves are alike: neither is better. */
const alikePart = 0.0005;

type WidthReport = FleetReport["byWidth"][number];

const widthFigures: readonly Figure<WidthReport>[] = [
  ["waiting, mean", "ms", "less", ({ waiting }) => waiting.meanMs],
  ["waiting, p99", "ms", "less", ({ waiting }) => waiting.p99Ms],
  ["waiting, longest", "ms", "less", ({ waiting }) => waiting.longestMs],
];

/**
 * Compares two runs of one workload on one fleet with one seed, for example under two policies. Throws RangeError where
 * they are not of the same: then a difference would say nothing.
 */
export function compareRuns(before: FleetReport, after: FleetReport): Comparison {
  const same = (report: FleetReport): string =>
    JSON.stringify([report.workload, report.fleet, report.seed, report.startMs]);
  if (same(before) !== same(after)) {
    throw new RangeError("only runs of the same workload, fleet and seed can be compared");
  }
  return {
    simulated: true,
    title: `${before.title}: ${before.policyName} → ${after.policyName}`,
    before,
    after,
    changes: changes(figures, before, after),
    tenants: eachOf(tenantFigures, [before.tenants, after.tenants], ({ tenant }) => tenant),
    widths: eachOf(widthFigures, [before.byWidth, after.byWidth], ({ width }) => width),
  };
}

function eachOf<Of>(
  list: readonly Figure<Of>[],
  [before, after]: readonly [readonly Of[], readonly Of[]],
  nameOf: (of: Of) => string,
): readonly ChangesOf[] {
  const others = new Map(after.map((of) => [nameOf(of), of]));
  return before.flatMap((of) => {
    const other = others.get(nameOf(of));
    return other === undefined ? [] : [{ of: nameOf(of), changes: changes(list, of, other) }];
  });
}

function changes<Of>(list: readonly Figure<Of>[], before: Of, after: Of): readonly Change[] {
  return list.map(([figure, unit, direction, read]) => {
    const [a, b] = [read(before), read(after)];
    const alike = Math.abs(a - b) <= alikePart * Math.max(Math.abs(a), Math.abs(b));
    const better = direction === "neither" || alike ? undefined : a > b === (direction === "less");
    return {
      figure,
      unit,
      before: a,
      after: b,
      better: better === undefined ? undefined : better ? "after" : "before",
    };
  });
}

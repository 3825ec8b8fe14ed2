import type { JobOutcome } from "../queueing/job.ts";
import { drawFaults, noFaults, type FaultModel, type FleetFault } from "./faults.ts";
import type { FleetNode } from "./inventory.ts";
import { named } from "./names.ts";
import { dollarPrices, type Prices } from "./prices.ts";
import { reportOf, type FleetReport } from "./report.ts";
import { settingsFor, type FleetSettings } from "./settings.ts";
import { FleetSimulation, type SimulationOptions } from "./simulation.ts";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import type { TaskRun } from "./task-run.ts";
import type { FleetWorkload } from "./workload.ts";

/** A scenario: everything but the policy. */
export interface Scenario {
  readonly nodes: readonly FleetNode[];
  readonly workload: FleetWorkload;
  readonly seed: number;
  /** Faults drawn at random from the first to the last arrival; default: none. */
  readonly faults?: FaultModel | undefined;
  /** Faults at given times, beside those drawn. */
  readonly injected?: readonly FleetFault[] | undefined;
  /** Default: as the workload's size and span ask for. */
  readonly settings?: Partial<FleetSettings> | undefined;
  /** Default: a dollar for each GPU-hour. */
  readonly prices?: Prices | undefined;
  /** Virtual time at which the run is cut off, in the workload's own time. */
  readonly untilMs?: number | undefined;
  /** Who plans; default: the service's planner under the policy. */
  readonly planner?: SimulationOptions["planner"];
}

/** A policy, and what the report calls it. */
export interface NamedPolicy {
  readonly name: string;
  readonly policy: SchedulingPolicy;
}

/** A run that is played piece by piece, so that a caller can show how far it is. */
export interface Run {
  /** Plays on for about so many events; false when it is over. Throws BrokenPromise. */
  advance(events: number): boolean;
  readonly progress: { readonly ended: number; readonly tasks: number };
  /** Events and plans so far. */
  readonly work: { readonly events: number; readonly plans: number };
  /** The report of what was played. */
  report(): FleetReport;
  /** What became of each task, in the workload's order; undefined: it has not ended. */
  outcomes(): readonly (JobOutcome | undefined)[];
}

/** Prepares a run. The same scenario and policy give the same report to the byte. */
export function prepare(scenario: Scenario, { name, policy }: NamedPolicy): Run {
  const { workload, nodes, seed } = scenario;
  const firstMs = workload.tasks[0]?.atMs ?? 0;
  const lastMs = workload.tasks.at(-1)?.atMs ?? 0;
  const spanMs = Math.max(1, Math.min(scenario.untilMs ?? lastMs, lastMs) - firstMs);
  const model = scenario.faults ?? noFaults;
  const drawn = drawFaults({ model, nodes, fromMs: firstMs, untilMs: firstMs + spanMs, seed });
  const faults = [...drawn, ...(scenario.injected ?? [])].toSorted((a, b) => a.atMs - b.atMs);
  const settings = {
    ...settingsFor({ tasks: workload.tasks.length, nodes: nodes.length, spanMs }),
    ...scenario.settings,
  };
  const sim = new FleetSimulation(
    {
      nodes,
      workload,
      policy,
      faults,
      settings,
      seed,
      untilMs: scenario.untilMs,
      planner: scenario.planner,
    },
    bucketFor(spanMs),
  );
  return {
    advance: (events) => sim.advance(events),
    get progress() {
      return sim.progress;
    },
    get work() {
      return { events: sim.record.events, plans: sim.record.plans };
    },
    report: () =>
      reportOf(sim, {
        title: `${workload.name} on ${nodes.length} node${nodes.length === 1 ? "" : "s"}`,
        policyName: name,
        named: named(workload),
        prices: scenario.prices ?? dollarPrices,
      }),
    outcomes: () => sim.tasks.map(outcomeOf),
  };
}

const outcomeOf = ({ endMs, firstLeaseMs, preemptions }: TaskRun): JobOutcome | undefined =>
  endMs === undefined ? undefined : { endMs, firstStartMs: firstLeaseMs ?? endMs, preemptions };

/** Plays a scenario to its end. Throws BrokenPromise where the planner breaks one of its promises. */
export function simulate(scenario: Scenario, policy: NamedPolicy): FleetReport {
  const run = prepare(scenario, policy);
  while (run.advance(100_000));
  return run.report();
}

/** Widths of the buckets of a series. */
const bucketsMs = [
  10_000,
  60_000,
  300_000,
  900_000,
  3_600_000,
  4 * 3_600_000,
  12 * 3_600_000,
  24 * 3_600_000,
];

/** At most about 300 buckets, so that a report stays small whatever the span. */
function bucketFor(spanMs: number): number {
  return bucketsMs.find((bucketMs) => spanMs / bucketMs <= 300) ?? Math.ceil(spanMs / 300);
}

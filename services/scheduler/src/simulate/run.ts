import { basename } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Fault } from "@fastgpu/domain/fault";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { compareRuns, type Comparison } from "@fastgpu/simulation/fleet/compare";
import { parsePrices } from "@fastgpu/simulation/fleet/prices";
import { BrokenPromise } from "@fastgpu/simulation/fleet/promises";
import type { FleetReport } from "@fastgpu/simulation/fleet/report";
import {
  prepare,
  type NamedPolicy,
  type Run,
  type Scenario,
} from "@fastgpu/simulation/fleet/simulate";
import { renderComparisonPage, renderFleetPage } from "@fastgpu/simulation/report/fleet-page";
import {
  comparisonTables,
  fleetTables,
  renderTables,
} from "@fastgpu/simulation/report/fleet-tables";
import { readPolicy } from "../policy/read-policy.ts";
import { readFaults, readRights } from "./extras.ts";
import { readFleet, readText, readWorkload } from "./inputs.ts";

/** What is simulated, as it was asked for. Durations in milliseconds. */
export interface SimulateOptions {
  /** A file or a line; see `readFleet`. */
  readonly nodes: string;
  /** See `readWorkload`. */
  readonly workload: string;
  /** Policy file; undefined or "default": the shipped policy. */
  readonly policy: string | undefined;
  /** A second policy to compare with, in the same forms. */
  readonly compare: string | undefined;
  /** `usual`, `none`, mean times or a file; see `readFaults`. */
  readonly faults: string | undefined;
  /** A file of queues and reservations; see `readRights`. Default: those of the workload. */
  readonly queues: string | undefined;
  readonly seed: number;
  /** From the first arrival. */
  readonly untilMs: number | undefined;
  /** Only so many tasks, the earliest. */
  readonly first: number | undefined;
  /** Arrivals so many times as fast. */
  readonly speed: number;
  /** Nodes of an openb list that make a rack; 0: no racks. */
  readonly racksOf: number;
  /** How the GPUs of an openb list are given out; see `parseMode`. Undefined: shared in time slices. */
  readonly sharing: string | undefined;
  /** Dollars a GPU-hour; see `parsePrices`. */
  readonly prices: string | undefined;
  /** Least time between two plans. */
  readonly cycleMs: number | undefined;
}

/** How far a simulation is. */
export interface SimulationProgress {
  readonly policy: string;
  readonly ended: number;
  readonly tasks: number;
}

/** Who watches a simulation, and may end it. */
export interface Watching {
  readonly signal: AbortSignal;
  progress(progress: SimulationProgress): void;
}

/** What a simulation gave, ready to be shown. */
export interface Simulated {
  readonly result: FleetReport | Comparison;
  /** Aligned text. */
  readonly text: string;
  /** One self-contained HTML page. */
  page(): string;
}

/** Events between two looks at the signal and the progress: some tenths of a second of work. */
const eventsAtOnce = 500;

/**
 * Simulates a fleet under one policy, or under two to compare them on the same load, faults and seed. Throws a Fault for
 * inputs that cannot be used, CANCELLED when the signal is aborted, and BrokenPromise where the planner breaks a promise.
 */
export async function runSimulation(options: SimulateOptions, on: Watching): Promise<Simulated> {
  const policies = [await policyOf(options.policy)];
  if (options.compare !== undefined) policies.push(await policyOf(options.compare));
  return await playAll(await readScenario(options), policies, on);
}

/** Plays a scenario under one policy, or under two to compare them. Throws as {@link runSimulation} does. */
export async function playAll(
  scenario: Scenario,
  policies: readonly NamedPolicy[],
  on: Watching,
): Promise<Simulated> {
  const reports: FleetReport[] = [];
  for (const policy of distinct(policies)) reports.push(await play(scenario, policy, on));
  const [report, other] = reports;
  if (report === undefined) throw new Error("there is a first policy");
  if (other === undefined) {
    const text = renderTables(report.title, fleetTables(report), report.workload.notes);
    return { result: report, text, page: () => renderFleetPage(report) };
  }
  const comparison = compareRuns(report, other);
  const text = renderTables(comparison.title, comparisonTables(comparison), report.workload.notes);
  return { result: comparison, text, page: () => renderComparisonPage(comparison) };
}

async function readScenario(options: SimulateOptions): Promise<Scenario> {
  const { seed, untilMs, first, speed } = options;
  const nodes = await readFleet(options.nodes, options);
  const prices = parsePrices(options.prices ?? "1");
  if (prices.kind === "bad") throw Fault.invalid("prices", prices.problem);
  const workload = await readWorkload(options.workload, { nodes, seed, first, speed });
  const startMs = workload.tasks[0]?.atMs ?? 0;
  const faults = await readFaults(options.faults ?? "none", { nodes, startMs });
  const rights =
    options.queues === undefined ? undefined : await readRights(options.queues, startMs);
  return {
    nodes,
    workload: { ...workload, ...rights },
    seed,
    faults: faults.model,
    injected: faults.injected,
    prices: prices.prices,
    untilMs: untilMs === undefined ? undefined : startMs + untilMs,
    settings: options.cycleMs === undefined ? undefined : { cycleMs: options.cycleMs },
  };
}

/** The policy of a file; the shipped one without a file, or for "default". */
export async function policyOf(source: string | undefined): Promise<NamedPolicy> {
  if (source === undefined || source === "default") {
    return { name: "default", policy: defaultSchedulingPolicy };
  }
  return { name: basename(source), policy: readPolicy(await readText(source), source) };
}

/** Two policies of one name are told apart by their place. */
function distinct(policies: readonly NamedPolicy[]): readonly NamedPolicy[] {
  const [first, second] = policies;
  if (first === undefined || second === undefined || first.name !== second.name) return policies;
  return [first, { ...second, name: `${second.name} (2)` }];
}

async function play(scenario: Scenario, policy: NamedPolicy, on: Watching): Promise<FleetReport> {
  const run = prepare(scenario, policy);
  while (advance(run)) {
    on.progress({ policy: policy.name, ...run.progress });
    await setImmediate();
    if (on.signal.aborted) throw new Fault("CANCELLED", "the simulation was interrupted");
  }
  return run.report();
}

/** A broken promise is a fault of the scheduler: it is told with what makes it happen again. */
function advance(run: Run): boolean {
  try {
    return run.advance(eventsAtOnce);
  } catch (error) {
    if (!(error instanceof BrokenPromise)) throw error;
    throw new Fault("INTERNAL", error.message, {
      hint: "report it with this command: the same inputs and seed make it happen again",
      cause: error,
    });
  }
}

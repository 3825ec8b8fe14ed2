/** How the simulated fleet behaves, beside its policy. All times in milliseconds. */
export interface FleetSettings {
  /** Least time between two plans. A plan is made when something has changed; the service's is 50 ms. */
  readonly cycleMs: number;
  /** Longest time between two plans while tasks wait: time alone changes who goes next. */
  readonly tickMs: number;
  /** From lease to running: image, container, start-up. */
  readonly startMs: number;
  /** From the stop signal until the processes are gone, at most the task's grace. */
  readonly stopMs: number;
  /** Run time that a start from a checkpoint costs. */
  readonly restoreMs: number;
  /** From the loss of a worker until the scheduler gives its leases up (lease and skew). */
  readonly leaseMs: number;
  /** How long GPUs freed by a preemption are kept for the task that they were freed for. */
  readonly reserveMs: number;
}

/** Settings as the service has them. */
const usualSettings: FleetSettings = {
  cycleMs: 50,
  tickMs: 60_000,
  startMs: 5_000,
  stopMs: 10_000,
  restoreMs: 120_000,
  leaseMs: 17_000,
  reserveMs: 120_000,
};

/** Plans that a run may need: fewer for a large fleet, where each takes longer. */
const plansWanted = (nodes: number): number =>
  Math.round(Math.min(40_000, Math.max(10_000, 4_000_000 / Math.max(1, nodes))));
/** Plans that one task causes: it comes, it ends, and now and then it comes again. */
const plansPerTask = 3;
const leastCycleMs = 50;
const mostCycleMs = 120_000;

/**
 * Settings for so many tasks that arrive over a span at so many nodes. A plan is made whenever something has changed, as
 * in the service; where that would be too many, plans are further apart, at most two minutes, so that months take
 * minutes. Waits are exact to about this much.
 */
export function settingsFor(of: { tasks: number; nodes: number; spanMs: number }): FleetSettings {
  const gapMs = Math.round(of.spanMs / plansWanted(of.nodes));
  const few = of.tasks * plansPerTask <= plansWanted(of.nodes);
  const cycleMs = few ? leastCycleMs : Math.min(mostCycleMs, Math.max(leastCycleMs, gapMs));
  return { ...usualSettings, cycleMs, tickMs: Math.max(usualSettings.tickMs, gapMs) };
}

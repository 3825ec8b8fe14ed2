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

/** Settings as the service has them; plans at most once a second. */
export const usualSettings: FleetSettings = {
  cycleMs: 1_000,
  tickMs: 60_000,
  startMs: 5_000,
  stopMs: 10_000,
  restoreMs: 120_000,
  leaseMs: 17_000,
  reserveMs: 120_000,
};

/** Most plans that a run over a span should need, were one made at each turn. */
const plansWanted = 20_000;

/**
 * Settings for a workload of this span: the longer it is, the further plans are apart (at most two minutes), so that a
 * month takes minutes. Waits are exact to about this much.
 */
export function settingsForSpan(spanMs: number): FleetSettings {
  const cycleMs = Math.min(120_000, Math.max(50, Math.round(spanMs / plansWanted)));
  return { ...usualSettings, cycleMs, tickMs: Math.max(usualSettings.tickMs, 2 * cycleMs) };
}

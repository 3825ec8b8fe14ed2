import type { Figures } from "../store/status.ts";
import type { Mirror } from "./mirror.ts";

/** Plans whose times are remembered. */
const remembered = 256;

type Counted =
  | "leases"
  | "leasesRejected"
  | "leasesUnfunded"
  | "preemptions"
  | "preemptionsRejected";

/** What a term of leadership counts of itself. */
export class TermFigures {
  /** Since the term began. */
  readonly counts: Record<Counted, number> = {
    leases: 0,
    leasesRejected: 0,
    leasesUnfunded: 0,
    preemptions: 0,
    preemptionsRejected: 0,
  };
  readonly #rebuildMs: number;
  readonly #planMs = new Float64Array(remembered);
  #plans = 0;

  /** `rebuildMs`: how long the picture took to rebuild. */
  constructor(rebuildMs: number) {
    this.#rebuildMs = rebuildMs;
  }

  /** Notes how long a plan took, in milliseconds. */
  planned(ms: number): void {
    this.#planMs[this.#plans % remembered] = ms;
    this.#plans += 1;
  }

  /** The figures as they stand. */
  read({ waiting, nodes, runTimes }: Pick<Mirror, "waiting" | "nodes" | "runTimes">): Figures {
    const { predicted, unpredicted, medianAbsDoublings, p90Coverage } = runTimes.error();
    const all = [...nodes.values()];
    const times = this.#planMs.slice(0, Math.min(this.#plans, remembered)).sort();
    return {
      rebuildMs: this.#rebuildMs,
      waiting: waiting.size,
      liveAttempts: all.reduce((sum, { attempts }) => sum + attempts.length, 0),
      readyNodes: all.filter(({ plan }) => plan.acceptsWork).length,
      nodes: all.length,
      plans: this.#plans,
      planP50Ms: quantile(times, 0.5),
      planP99Ms: quantile(times, 0.99),
      ...this.counts,
      runsExpected: predicted,
      runsUnexpected: unpredicted,
      runTimeMedianFactorOff: predicted === 0 ? 0 : 2 ** medianAbsDoublings,
      runTimeP90Part: p90Coverage,
    };
  }
}

/** The least of sorted times that at least a part `q` of them do not pass; 0 where there are none. */
const quantile = (sorted: Float64Array, q: number): number =>
  sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0;

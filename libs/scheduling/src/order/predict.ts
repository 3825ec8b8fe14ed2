/** What is expected of a task's whole run time, from runs like it. */
export interface Prediction {
  /** One in ten such runs ended before this, in milliseconds: with p90 the range to quote. */
  readonly p10Ms: number;
  /** Half of such runs ended by then, in milliseconds. */
  readonly p50Ms: number;
  /** Nine in ten ended by then, in milliseconds: what backfill and start estimates go by. */
  readonly p90Ms: number;
  /** Runs that it rests on, old ones counting less; 0 where only the run time so far is known. */
  readonly runs: number;
  /** Which of the keys had enough history: 0 is the closest; as many as there are keys: none had. */
  readonly level: number;
}

/** How good the predictions were, over all runs that had one when they were submitted. */
export interface PredictionError {
  readonly predicted: number;
  /** Runs that had no history at all. */
  readonly unpredicted: number;
  /** Median of |log2(run time / p50)|, to a 32nd: 1 = half of the runs are off by more than a factor of two. */
  readonly medianAbsDoublings: number;
  /** Mean of |log2(run time / p50)|. */
  readonly meanAbsDoublings: number;
  /** Mean of log2(run time / p50): above 0 = runs take longer than predicted. */
  readonly biasDoublings: number;
  /** Part of the runs that ended by their p90; 0.9 is honest. */
  readonly p90Coverage: number;
  /** Part of the runs that ended between their p10 and their p90; 0.8 is honest. */
  readonly rangeCoverage: number;
}

/** Buckets are a quarter of a doubling wide, from one second up to about 50 years. */
const bucketsPerDoubling = 4;
const bucketCount = 124;
/** Runs that a history needs before it is trusted alone. */
export const leastRuns = 5;
/** Each new run of a history counts for what the old ones counted times this: the last ~50 matter. */
const decay = 0.98;
/** Steps of the histogram of errors, per doubling, and its length. */
const errorSteps = 32;
const errorCount = 32 * errorSteps;

interface History {
  readonly counts: Float64Array;
  total: number;
}

/**
 * Predicts run times from a tenant's own history: for a list of keys from close to wide (tenant and shape, tenant, and
 * everybody where that may be told) a decayed histogram of run times in quarter doublings; the closest key with enough
 * runs answers. For a task that runs already only
 * the runs that lasted as long count; where none did, the run time is taken for Pareto with tail 1 (as likely as not
 * it runs as long again).
 *
 * Rests on nothing but run times that were seen. Bad predictions cost little in the queue order: what can be stopped is
 * not ordered by them.
 */
export class RunTimePredictor {
  private readonly histories = new Map<string, History>();
  private readonly errors = new Uint32Array(errorCount);
  private predicted = 0;
  private unpredicted = 0;
  private absDoublings = 0;
  private doublings = 0;
  private underP90 = 0;
  private inRange = 0;
  private readonly maxKeys: number;

  /** Of more keys than `maxKeys` those are forgotten of which nothing has ended for longest; default: none. */
  constructor({ maxKeys = Number.POSITIVE_INFINITY }: { readonly maxKeys?: number } = {}) {
    this.maxKeys = maxKeys;
  }

  /**
   * What is expected of the whole run time of a task with these keys, closest first, given that it has run for
   * `elapsedMs` (by default: not yet). Undefined where nothing is known: too few runs have ended, and it has not run.
   */
  predict(keys: readonly string[], elapsedMs = 0): Prediction | undefined {
    const from = elapsedMs > 0 ? bucketOf(elapsedMs) : 0;
    for (const [level, key] of keys.entries()) {
      const history = this.histories.get(key);
      if (history === undefined) continue;
      const runs = from === 0 ? history.total : sum(history.counts, from);
      if (runs < leastRuns * decay ** leastRuns) continue;
      const at = (part: number, round: Rounding): number =>
        Math.max(elapsedMs, quantile({ history, from, runs, part, round }));
      return {
        p10Ms: at(0.1, "down"),
        p50Ms: at(0.5, "between"),
        p90Ms: at(0.9, "up"),
        runs,
        level,
      };
    }
    if (elapsedMs <= 0) return undefined;
    const outlast = (part: number): number => Math.round(elapsedMs / (1 - part));
    return {
      p10Ms: outlast(0.1),
      p50Ms: outlast(0.5),
      p90Ms: outlast(0.9),
      runs: 0,
      level: keys.length,
    };
  }

  /**
   * Learns from a run that ended by itself; `made` is what was predicted when it was submitted. Answers the keys that
   * are forgotten for it.
   */
  observe(
    keys: readonly string[],
    runMs: number,
    made: Prediction | undefined,
  ): { readonly forgotten: readonly string[] } {
    this.judge(runMs, made);
    const bucket = bucketOf(runMs);
    for (const key of keys) {
      const history = this.histories.get(key) ?? {
        counts: new Float64Array(bucketCount),
        total: 0,
      };
      // In the order of their last run.
      this.histories.delete(key);
      this.histories.set(key, history);
      for (let at = 0; at < bucketCount; at++) history.counts[at]! *= decay;
      history.counts[bucket]! += 1;
      history.total = history.total * decay + 1;
    }
    return { forgotten: this.forget() };
  }

  private forget(): readonly string[] {
    const forgotten: string[] = [];
    for (const key of this.histories.keys()) {
      if (this.histories.size <= this.maxKeys) break;
      this.histories.delete(key);
      forgotten.push(key);
    }
    return forgotten;
  }

  /** How good the predictions have been so far. */
  error(): PredictionError {
    const count = Math.max(1, this.predicted);
    let left = this.predicted / 2;
    let median = 0;
    while (median < errorCount - 1 && left > this.errors[median]!) left -= this.errors[median++]!;
    return {
      predicted: this.predicted,
      unpredicted: this.unpredicted,
      medianAbsDoublings: this.predicted === 0 ? 0 : median / errorSteps,
      meanAbsDoublings: this.absDoublings / count,
      biasDoublings: this.doublings / count,
      p90Coverage: this.underP90 / count,
      rangeCoverage: this.inRange / count,
    };
  }

  private judge(runMs: number, made: Prediction | undefined): void {
    if (made === undefined) {
      this.unpredicted++;
      return;
    }
    const off = Math.log2(Math.max(1000, runMs) / made.p50Ms);
    this.predicted++;
    this.doublings += off;
    this.absDoublings += Math.abs(off);
    this.errors[Math.min(errorCount - 1, Math.floor(Math.abs(off) * errorSteps))]! += 1;
    if (runMs > made.p90Ms) return;
    this.underP90++;
    if (runMs >= made.p10Ms) this.inRange++;
  }
}

function bucketOf(runMs: number): number {
  const doublings = Math.log2(Math.max(1000, runMs) / 1000);
  return Math.min(bucketCount - 1, Math.floor(doublings * bucketsPerDoubling));
}

function sum(counts: Float64Array, from: number): number {
  let total = 0;
  for (let at = from; at < bucketCount; at++) total += counts[at]!;
  return total;
}

/** Which point of its bucket a quantile is: the start, the end, or between them on the log scale. */
type Rounding = "down" | "between" | "up";

/** The run time below which such a part of the runs ended. */
function quantile(of: {
  readonly history: History;
  readonly from: number;
  readonly runs: number;
  readonly part: number;
  readonly round: Rounding;
}): number {
  let left = of.part * of.runs;
  for (let at = of.from; at < bucketCount; at++) {
    const count = of.history.counts[at]!;
    if (count > 0 && left <= count) {
      const within = { down: 0, between: left / count, up: 1 }[of.round];
      return Math.round(1000 * 2 ** ((at + within) / bucketsPerDoubling));
    }
    left -= count;
  }
  return Math.round(1000 * 2 ** (bucketCount / bucketsPerDoubling));
}

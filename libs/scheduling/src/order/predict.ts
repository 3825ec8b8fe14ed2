/** What is expected of a task's run time, from runs like it. */
export interface Prediction {
  /** Half of such runs ended by then, in milliseconds. */
  readonly p50Ms: number;
  /** Nine in ten ended by then: what backfill and start estimates go by. */
  readonly p90Ms: number;
  /** Runs that it rests on, old ones counting less. */
  readonly runs: number;
  /** Which of the keys had enough history: 0 is the closest. */
  readonly level: number;
}

/** How good the predictions were, over all runs that had one when they started. */
export interface PredictionError {
  readonly predicted: number;
  /** Runs that had no history at all. */
  readonly unpredicted: number;
  /** Mean of |log2(run time / p50)|: 1 = off by a factor of two on average. */
  readonly meanAbsDoublings: number;
  /** Mean of log2(run time / p50): above 0 = runs take longer than predicted. */
  readonly biasDoublings: number;
  /** Part of the runs that ended by their p90; 0.9 is honest. */
  readonly p90Coverage: number;
}

/** Buckets are a quarter of a doubling wide, from one second up to about 50 years. */
const bucketsPerDoubling = 4;
const bucketCount = 124;
/** Runs that a key needs before it is trusted alone. */
const leastRuns = 5;
/** Each new run of a key counts for what the old ones counted times this: the last ~50 matter. */
const decay = 0.98;

interface History {
  readonly counts: Float64Array;
  total: number;
}

/**
 * Predicts run times from a tenant's own history: for a list of keys from close to wide (tenant + shape, tenant,
 * everybody) a decayed histogram of run times in quarter doublings; the closest key with enough runs answers. Bad
 * predictions cost little here: the order does not use them for what can be stopped.
 */
export class RunTimePredictor {
  private readonly histories = new Map<string, History>();
  private predicted = 0;
  private unpredicted = 0;
  private absDoublings = 0;
  private doublings = 0;
  private covered = 0;

  /** What is expected of a task with these keys, closest first; undefined without any history. */
  predict(keys: readonly string[]): Prediction | undefined {
    for (const [level, key] of keys.entries()) {
      const history = this.histories.get(key);
      if (history === undefined || history.total < leastRuns * decay ** leastRuns) continue;
      return {
        p50Ms: quantile(history, 0.5, "between"),
        p90Ms: quantile(history, 0.9, "up"),
        runs: history.total,
        level,
      };
    }
    return undefined;
  }

  /** Learns from a run that ended by itself; `made` is what was predicted when it started. */
  observe(keys: readonly string[], runMs: number, made: Prediction | undefined): void {
    if (made === undefined) this.unpredicted++;
    else {
      const off = Math.log2(Math.max(1000, runMs) / made.p50Ms);
      this.predicted++;
      this.doublings += off;
      this.absDoublings += Math.abs(off);
      if (runMs <= made.p90Ms) this.covered++;
    }
    const bucket = bucketOf(runMs);
    for (const key of keys) {
      let history = this.histories.get(key);
      if (history === undefined) {
        history = { counts: new Float64Array(bucketCount), total: 0 };
        this.histories.set(key, history);
      }
      for (let at = 0; at < bucketCount; at++) history.counts[at]! *= decay;
      history.counts[bucket]! += 1;
      history.total = history.total * decay + 1;
    }
  }

  /** How good the predictions have been so far. */
  error(): PredictionError {
    const count = Math.max(1, this.predicted);
    return {
      predicted: this.predicted,
      unpredicted: this.unpredicted,
      meanAbsDoublings: this.absDoublings / count,
      biasDoublings: this.doublings / count,
      p90Coverage: this.covered / count,
    };
  }
}

function bucketOf(runMs: number): number {
  const doublings = Math.log2(Math.max(1000, runMs) / 1000);
  return Math.min(bucketCount - 1, Math.floor(doublings * bucketsPerDoubling));
}

/** The run time below which such a part of the runs ended: the end of its bucket, or between its ends on the log scale. */
function quantile(history: History, part: number, round: "up" | "between"): number {
  let left = part * history.total;
  for (let at = 0; at < bucketCount; at++) {
    const count = history.counts[at]!;
    if (count > 0 && left <= count) {
      return Math.round(
        1000 * 2 ** ((at + (round === "up" ? 1 : left / count)) / bucketsPerDoubling),
      );
    }
    left -= count;
  }
  return Math.round(1000 * 2 ** (bucketCount / bucketsPerDoubling));
}

/**
 * A quantity over time as its mean in buckets of equal width. What lasts is added in O(1) however long it lasts: whole
 * buckets are kept as differences, only the two ends are written.
 */
export class BucketSeries {
  readonly startMs: number;
  readonly bucketMs: number;
  /** Amount × milliseconds that ends or begins within the bucket. */
  private readonly ends: number[] = [];
  /** Change of the amount that lasts for whole buckets, from this bucket on. */
  private readonly steps: number[] = [];

  constructor(startMs: number, bucketMs: number) {
    if (!(bucketMs > 0)) throw new RangeError("a bucket needs a width");
    this.startMs = startMs;
    this.bucketMs = bucketMs;
  }

  /** Adds an amount that lasts from one time to another. */
  add(fromMs: number, toMs: number, amount: number): void {
    if (toMs <= fromMs || amount === 0) return;
    const from = (fromMs - this.startMs) / this.bucketMs;
    const to = (toMs - this.startMs) / this.bucketMs;
    const first = Math.floor(from);
    const last = Math.floor(to);
    this.grow(last + 1);
    if (first === last) {
      this.ends[first]! += (toMs - fromMs) * amount;
      return;
    }
    this.ends[first]! += (this.startMs + (first + 1) * this.bucketMs - fromMs) * amount;
    this.ends[last]! += (toMs - this.startMs - last * this.bucketMs) * amount;
    this.steps[first + 1]! += amount;
    this.steps[last]! -= amount;
  }

  /** Mean of the amount in each bucket up to a time; of the last one over the part before that time. */
  means(untilMs: number): readonly number[] {
    const means: number[] = [];
    let lasting = 0;
    for (let bucket = 0; ; bucket++) {
      const fromMs = this.startMs + bucket * this.bucketMs;
      if (fromMs >= untilMs) return means;
      lasting += this.steps[bucket] ?? 0;
      const widthMs = Math.min(this.bucketMs, untilMs - fromMs);
      means.push(((this.ends[bucket] ?? 0) + lasting * this.bucketMs) / widthMs);
    }
  }

  private grow(size: number): void {
    while (this.ends.length <= size) {
      this.ends.push(0);
      this.steps.push(0);
    }
  }
}

/** A level that changes by thousandths at points in time, with its series and its sum over time. */
export class Level {
  readonly series: BucketSeries;
  private level = 0;
  private sinceMs: number;
  private sum = 0;

  constructor(startMs: number, bucketMs: number) {
    this.series = new BucketSeries(startMs, bucketMs);
    this.sinceMs = startMs;
  }

  /** The level now. */
  get value(): number {
    return this.level;
  }

  /** Raises or lowers the level from a time on, which never runs back. */
  change(nowMs: number, by: number): void {
    if (by === 0) return;
    this.settle(nowMs);
    // Exact, however many parts of GPUs come and go.
    this.level = Math.round((this.level + by) * 1000) / 1000;
  }

  /** Sum of level × milliseconds up to a time. */
  total(nowMs: number): number {
    this.settle(nowMs);
    return this.sum;
  }

  /** Means of the buckets up to a time. */
  means(untilMs: number): readonly number[] {
    this.settle(untilMs);
    return this.series.means(untilMs);
  }

  private settle(nowMs: number): void {
    if (nowMs <= this.sinceMs) return;
    this.series.add(this.sinceMs, nowMs, this.level);
    this.sum += this.level * (nowMs - this.sinceMs);
    this.sinceMs = nowMs;
  }
}

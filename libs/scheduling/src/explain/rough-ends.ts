/** When so much of a queue's share is given back. */
interface End {
  readonly atMs: number;
  readonly leaf: number;
  readonly milli: number;
}

/** What gives its queue's share back: a heap by time, in columns. */
export class Ends {
  private size = 0;
  private atMs = new Float64Array(1024);
  private leaves = new Int32Array(1024);
  private milli = new Int32Array(1024);

  get nextMs(): number {
    return this.size === 0 ? Infinity : this.atMs[0]!;
  }

  add({ atMs: endMs, leaf, milli }: End): void {
    if (endMs === Infinity) return;
    if (this.size === this.atMs.length) this.grow();
    const { atMs } = this;
    let at = this.size++;
    while (at > 0 && atMs[(at - 1) >> 1]! > endMs) {
      this.move((at - 1) >> 1, at);
      at = (at - 1) >> 1;
    }
    this.set(at, { atMs: endMs, leaf, milli });
  }

  take(): End {
    const first = this.get(0);
    const last = this.get(--this.size);
    const { atMs, size } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && atMs[child + 1]! < atMs[child]!) child++;
      if (atMs[child]! >= last.atMs) break;
      this.move(child, at);
      at = child;
    }
    this.set(at, last);
    return first;
  }

  private get(at: number): End {
    return { atMs: this.atMs[at]!, leaf: this.leaves[at]!, milli: this.milli[at]! };
  }

  private set(at: number, { atMs, leaf, milli }: End): void {
    this.atMs[at] = atMs;
    this.leaves[at] = leaf;
    this.milli[at] = milli;
  }

  private move(from: number, to: number): void {
    this.atMs[to] = this.atMs[from]!;
    this.leaves[to] = this.leaves[from]!;
    this.milli[to] = this.milli[from]!;
  }

  private grow(): void {
    const length = 2 * this.atMs.length;
    const [atMs, leaves, milli] = [this.atMs, this.leaves, this.milli];
    this.atMs = new Float64Array(length);
    this.leaves = new Int32Array(length);
    this.milli = new Int32Array(length);
    this.atMs.set(atMs);
    this.leaves.set(leaves);
    this.milli.set(milli);
  }
}

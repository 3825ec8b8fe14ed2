/** A place in the table of jobs. Reused after `remove`. */
export type Slot = number;

/** States of a job in the order. */
export const jobState = {
  none: 0,
  /** Waits for GPUs. */
  waiting: 1,
  /** Holds its GPUs. */
  running: 2,
  /** Asked to stop: holds its GPUs still, is no victim any more. */
  leaving: 3,
  /** Chosen to start on GPUs that are being freed for it: out of the walk, holds nothing yet. */
  promised: 4,
} as const;

/** A job as it is added. Times are milliseconds of one clock. */
export interface NewJob {
  /** The leaf queue (index in the share tree). */
  readonly leaf: number;
  /** Tasks of one shape have the same feasibility: when one finds no room, none does. */
  readonly shape: number;
  /** GPUs of the whole gang, in thousandths. */
  readonly gpusMilli: number;
  /** Higher goes first: a class is worth `priorityMd`. */
  readonly priority: number;
  readonly submitMs: number;
  /** Useful GPU-milliseconds so far, **of its lineage**: resubmitting does not make a task look new. */
  readonly attainedGpuMs: number;
  /** It can be stopped and resume later. What cannot is never a victim. */
  readonly preemptible: boolean;
  /** Predicted run time in milliseconds; orders a job that cannot be stopped. 0: not known. */
  readonly predictedMs: number;
  /** Breaks ties of score and submit time: lower first, unique. */
  readonly tie: number;
  /** Time spent in the queue before now, and preemptions borne (after a restart of the service). */
  readonly queuedMs?: number;
  readonly preemptions?: number;
  /** Its rank by history, in milliseconds of run time, where the queue itself learns none. */
  readonly rankMs?: number | undefined;
}

/** The columns of all jobs: typed arrays, 86 bytes a job. Owned by the queue; read-only for others. */
export class JobTable {
  capacity = 0;
  leaf = new Int32Array(0);
  group = new Int32Array(0);
  gpusMilli = new Int32Array(0);
  sizeMd = new Int32Array(0);
  state = new Uint8Array(0);
  /** Bit 0: can be stopped; bit 1: in the aged lane. */
  flags = new Uint8Array(0);
  preemptions = new Uint16Array(0);
  submitMs = new Float64Array(0);
  /** Attained when the present state began. */
  attainedGpuMs = new Float64Array(0);
  /** Queueing time before the present state. */
  queuedMs = new Float64Array(0);
  /** When the present state began. */
  sinceMs = new Float64Array(0);
  /** Of a running job: from when it does useful work (later than since: the restore). */
  usefulMs = new Float64Array(0);
  /** Of a running job: when it last saved its state. */
  savedMs = new Float64Array(0);
  tie = new Float64Array(0);
  /** Predicted run time in seconds, 0 where not known. */
  predictedS = new Int32Array(0);
  /** Places in the group's heap and in the heap by age. */
  groupPlace = new Int32Array(0);
  agePlace = new Int32Array(0);
  private readonly unused: Slot[] = [];
  private used = 0;

  /** A fresh slot, at state none. */
  take(): Slot {
    const reused = this.unused.pop();
    if (reused !== undefined) return reused;
    if (this.used === this.capacity) this.grow(Math.max(64, Math.ceil(this.capacity * 1.5)));
    return this.used++;
  }

  /** Gives a slot back. */
  free(slot: Slot): void {
    this.state[slot] = jobState.none;
    this.unused.push(slot);
  }

  /** Useful GPU-milliseconds at a time, the present run included. */
  attainedAt(slot: Slot, nowMs: number): number {
    const holds = this.state[slot] === jobState.running || this.state[slot] === jobState.leaving;
    if (!holds) return this.attainedGpuMs[slot]!;
    const useful = Math.max(0, nowMs - this.usefulMs[slot]!);
    return this.attainedGpuMs[slot]! + (useful * this.gpusMilli[slot]!) / 1000;
  }

  /** Queueing time up to a time, in milliseconds. */
  queuedAt(slot: Slot, nowMs: number): number {
    const waits = this.state[slot] === jobState.waiting || this.state[slot] === jobState.promised;
    return this.queuedMs[slot]! + (waits ? nowMs - this.sinceMs[slot]! : 0);
  }

  /** What a stop now would waste, in GPU-milliseconds: work since the last save, and the restore. */
  lossAt(slot: Slot, nowMs: number, restoreChargeMs: number): number {
    const unsaved = Math.max(0, nowMs - Math.max(this.savedMs[slot]!, this.usefulMs[slot]!));
    return ((unsaved + restoreChargeMs) * this.gpusMilli[slot]!) / 1000;
  }

  preemptible(slot: Slot): boolean {
    return (this.flags[slot]! & 1) !== 0;
  }

  inLane(slot: Slot): boolean {
    return (this.flags[slot]! & 2) !== 0;
  }

  setLane(slot: Slot, lane: boolean): void {
    this.flags[slot] = lane ? this.flags[slot]! | 2 : this.flags[slot]! & ~2;
  }

  private grow(capacity: number): void {
    const ints = (old: Int32Array): Int32Array<ArrayBuffer> => {
      const grown = new Int32Array(capacity);
      grown.set(old);
      return grown;
    };
    const bytes = (old: Uint8Array): Uint8Array<ArrayBuffer> => {
      const grown = new Uint8Array(capacity);
      grown.set(old);
      return grown;
    };
    const floats = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const grown = new Float64Array(capacity);
      grown.set(old);
      return grown;
    };
    this.leaf = ints(this.leaf);
    this.group = ints(this.group);
    this.gpusMilli = ints(this.gpusMilli);
    this.sizeMd = ints(this.sizeMd);
    this.state = bytes(this.state);
    this.flags = bytes(this.flags);
    const preemptions = new Uint16Array(capacity);
    preemptions.set(this.preemptions);
    this.preemptions = preemptions;
    this.submitMs = floats(this.submitMs);
    this.attainedGpuMs = floats(this.attainedGpuMs);
    this.queuedMs = floats(this.queuedMs);
    this.sinceMs = floats(this.sinceMs);
    this.usefulMs = floats(this.usefulMs);
    this.savedMs = floats(this.savedMs);
    this.tie = floats(this.tie);
    this.predictedS = ints(this.predictedS);
    this.groupPlace = ints(this.groupPlace);
    this.agePlace = ints(this.agePlace);
    this.capacity = capacity;
  }
}

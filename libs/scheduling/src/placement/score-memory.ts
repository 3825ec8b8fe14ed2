/** Exact scores of (slot, shape), kept until the slot changes or the place is needed. */

const leastEntries = 1 << 12;
const mostEntries = 1 << 20;
/** Entries per slot: about as many shapes keep all their scores. */
const perSlot = 64;

/** What to keep. */
interface Kept {
  readonly shapeId: number;
  readonly stamp: number;
  readonly score: number;
}

/**
 * A table with one place per (slot, shape); a later pair takes an earlier one's place, so its
 * size (16 bytes an entry, at most 16 MiB) does not grow with the number of shapes.
 */
export class ScoreMemory {
  score = new Float64Array(0);
  private shapeId = new Int32Array(0);
  private stamp = new Int32Array(0);
  private epoch = -1;

  /** Makes ready for lookups: forgets scores of another epoch, grows with the slots. */
  prepare(epoch: number, slots: number): void {
    const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, slots * perSlot)));
    const entries = Math.max(
      leastEntries,
      Math.min(wanted, Math.max(mostEntries, wanted / perSlot)),
    );
    if (entries > this.score.length) {
      this.score = new Float64Array(entries);
      this.shapeId = new Int32Array(entries).fill(-1);
      this.stamp = new Int32Array(entries);
    } else if (epoch !== this.epoch) this.shapeId.fill(-1);
    this.epoch = epoch;
  }

  /** The place of the pair, or -1 - place where its score is known. */
  find(slot: number, shapeId: number, stamp: number): number {
    const mask = this.score.length - 1;
    // Shapes start far apart, so that neighbouring slots of one shape never meet.
    const at = (slot + Math.imul(shapeId, 0x9e3779b1)) & mask;
    return this.shapeId[at] === shapeId && this.stamp[at] === stamp ? -1 - at : at;
  }

  /** Keeps a score at a place that `find` gave. */
  keep(at: number, { shapeId, stamp, score }: Kept): void {
    this.shapeId[at] = shapeId;
    this.stamp[at] = stamp;
    this.score[at] = score;
  }
}

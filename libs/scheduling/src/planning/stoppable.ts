import type { Slot } from "../order/jobs.ts";
import type { Candidate } from "../order/room.ts";
import type { CoverBounds, Holding } from "./cover.ts";
import type { Line } from "./line.ts";

/** What an attempt that might be stopped holds on a node. */
interface StoppableOn extends Pick<Holding<unknown>, "entry" | "held"> {
  readonly slot: Slot;
}

/** Everybody who might be stopped, by node, in one plan: what a search for victims looks at first. */
export class Stoppable implements CoverBounds {
  readonly gpus: Float64Array;
  readonly rate: Float64Array;
  private readonly byNode: StoppableOn[][] = [];
  /** The candidates of a search by slot. */
  private readonly candidates: (Candidate | undefined)[] = [];
  /** The search that they are of. */
  private readonly searchOf: number[] = [];
  private search = 0;

  constructor({ runners, queue }: Line, of: { nodes: number; now: number }) {
    const { nodes, now } = of;
    const { jobs, policy } = queue;
    this.gpus = new Float64Array(nodes);
    this.rate = new Float64Array(nodes).fill(Number.POSITIVE_INFINITY);
    for (const [slot, { members }] of runners) {
      const lossGpuMs = jobs.lossAt(slot, now, policy.restoreChargeMs);
      for (const { entry, held } of members) {
        const { index } = entry;
        const on = (this.byNode[index] ??= []);
        on.push({ slot, entry, held });
        this.gpus[index]! += held.gpus.length;
        // Members of one attempt on one node count together.
        let gpus = 0;
        for (const other of on) if (other.slot === slot) gpus += other.held.gpus.length;
        if (gpus > 0) this.rate[index] = Math.min(this.rate[index]!, lossGpuMs / gpus);
      }
    }
  }

  /** Takes the candidates of the next search. */
  choose(candidates: readonly Candidate[]): void {
    this.search++;
    for (const candidate of candidates) {
      this.candidates[candidate.slot] = candidate;
      this.searchOf[candidate.slot] = this.search;
    }
  }

  /** What they hold on a node. */
  chosenOn(index: number): readonly Holding<Candidate>[] {
    const found: Holding<Candidate>[] = [];
    for (const { slot, entry, held } of this.byNode[index] ?? []) {
      if (this.searchOf[slot] !== this.search) continue;
      found.push({ holder: this.candidates[slot]!, entry, held });
    }
    return found;
  }
}

import type { Placement } from "./cluster.ts";
import type { PlacementEngine } from "./engine.ts";
import type { Shape } from "./shapes.ts";

/** One step of a draft: a place taken, or given back. */
interface Step {
  readonly shape: Shape;
  readonly placement: Placement;
  readonly taken: boolean;
}

/** What limits the nodes of a trial. */
export interface PlaceOptions {
  /** Nodes that may be used; a limited search scans them. */
  readonly allowed?: (node: number) => boolean;
}

/**
 * A trial on the live state: place members of a gang, or take victims away, and then keep
 * all of it or roll back. Steps are undone in reverse order, which restores the state exactly.
 */
export class Draft {
  private readonly engine: PlacementEngine;
  private readonly steps: Step[] = [];

  constructor(engine: PlacementEngine) {
    this.engine = engine;
  }

  /** A mark to roll back to. */
  checkpoint(): number {
    return this.steps.length;
  }

  /** Finds a place for one member and takes it; undefined where it fits nowhere. */
  place(shape: Shape, options: PlaceOptions = {}): Placement | undefined {
    const { engine } = this;
    const placement =
      options.allowed === undefined
        ? engine.find(shape)
        : engine.findByScan(shape, options.allowed);
    if (placement !== undefined) this.take(shape, placement);
    return placement;
  }

  /** Takes a given place. Throws RangeError where it is not free. */
  take(shape: Shape, placement: Placement): void {
    this.engine.take(shape, placement);
    this.steps.push({ shape, placement, taken: true });
  }

  /** Gives back a place that was taken before the draft, e.g. a possible victim's. */
  release(shape: Shape, placement: Placement): void {
    this.engine.release(shape, placement);
    this.steps.push({ shape, placement, taken: false });
  }

  /** Undoes everything after the mark (all of it by default). */
  rollback(checkpoint: number = 0): void {
    while (this.steps.length > checkpoint) {
      const { shape, placement, taken } = this.steps.pop()!;
      if (taken) this.engine.release(shape, placement);
      else this.engine.take(shape, placement);
    }
  }

  /** Forgets the steps, so that nothing can undo them. */
  keep(): void {
    this.steps.length = 0;
  }
}

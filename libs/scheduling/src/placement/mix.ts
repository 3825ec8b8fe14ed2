import type { Shape } from "./shapes.ts";

/** One class of tasks and how often it arrives. */
export interface MixClass {
  /** Any shape of the class: all agree but for the owner. */
  readonly shape: Shape;
  /** Arrivals counted, older ones at less. */
  count: number;
}

/** The workload as learned from arrivals: a count per class, decayed with each further arrival. */
export class Mix {
  /** Classes in the order of their first arrival. */
  readonly classes: MixClass[] = [];
  /** Arrivals observed, undecayed. */
  arrivals = 0;
  /** Sum of all counts. */
  total = 0;
  private readonly byClass = new Map<number, MixClass>();
  private readonly growth: number;
  private unit = 1;

  /** `memoryArrivals`: an arrival this many arrivals ago counts 1/e; Infinity forgets nothing. */
  constructor(memoryArrivals: number = Number.POSITIVE_INFINITY) {
    this.growth = Math.exp(1 / memoryArrivals);
  }

  /** Counts one arrival (`times` alike ones at once). */
  observe(shape: Shape, times: number = 1): void {
    this.arrivals += times;
    this.unit *= times === 1 ? this.growth : this.growth ** times;
    const known = this.byClass.get(shape.classId);
    if (known === undefined) {
      const added = { shape, count: this.unit * times };
      this.byClass.set(shape.classId, added);
      this.classes.push(added);
    } else known.count += this.unit * times;
    this.total += this.unit * times;
    if (this.unit > 1e12) this.rescale();
  }

  private rescale(): void {
    for (const entry of this.classes) entry.count /= this.unit;
    this.total /= this.unit;
    this.unit = 1;
  }
}

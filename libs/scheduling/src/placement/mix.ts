import type { ResourceRequest, Shape } from "./shapes.ts";

/** One class of tasks and how often it arrives. */
export interface MixClass {
  /** Any shape of the class: all agree but for the owner. */
  readonly shape: Shape;
  /** Arrivals counted, older ones at less. */
  count: number;
}

/** What a mix has learned, as plain data: shapes are numbered by engine, so that requests stand in their place. */
export interface LearnedMix {
  readonly arrivals: number;
  readonly total: number;
  readonly unit: number;
  readonly classes: readonly { readonly request: ResourceRequest; readonly count: number }[];
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

  /** What was learned so far, for another engine to go on from. */
  learned(): LearnedMix {
    const { arrivals, total, unit } = this;
    const classes = this.classes.map(({ shape, count }) => ({ request: requestOf(shape), count }));
    return { arrivals, total, unit, classes };
  }

  /** Goes on, from nothing, where another mix stood; `intern` gives this engine's shape for a request. */
  restore(learned: LearnedMix, intern: (request: ResourceRequest) => Shape): void {
    this.arrivals = learned.arrivals;
    this.total = learned.total;
    this.unit = learned.unit;
    for (const { request, count } of learned.classes) {
      const added = { shape: intern(request), count };
      this.byClass.set(added.shape.classId, added);
      this.classes.push(added);
    }
  }

  private rescale(): void {
    for (const entry of this.classes) entry.count /= this.unit;
    this.total /= this.unit;
    this.unit = 1;
  }
}

/** The request behind a shape: what is numbered by one engine alone is left out. */
function requestOf(shape: Shape): ResourceRequest {
  const { gpus, gpuMilli, gpuMemoryMib, models, minIsolation, allowSimulated } = shape;
  const { owner, migProfile, cpuMillis, memoryMib, diskMib } = shape;
  const gpu = { gpus, gpuMilli, gpuMemoryMib, models, minIsolation, allowSimulated };
  return { ...gpu, owner, migProfile, cpuMillis, memoryMib, diskMib };
}

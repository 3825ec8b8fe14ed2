import type { Fitter } from "./checks.ts";
import { BoundTree, fan, lastOrder } from "./bound-tree.ts";
import type { Cluster } from "./cluster.ts";
import type { Policy } from "./policy.ts";
import { ScoreMemory } from "./score-memory.ts";
import type { Shape } from "./shapes.ts";

const never = Number.NEGATIVE_INFINITY;

/** Upper bounds of the scores of a family of shapes, over all slots. */
interface View {
  epoch: number;
  /** The family's version for which its bounds hold. */
  version: number;
  /** The cluster's change counter up to which the view has followed. */
  seen: number;
  used: number;
  readonly bounds: BoundTree;
  /** By slot: `closed`, `open` or `tight`. */
  readonly kind: Uint8Array;
}

/** A slot that takes no shape of the family … */
const closed = 0;
/** … one with a first bound, which `tighten` may lower … */
const open = 1;
/** … and one whose bound was tightened. */
const tight = 2;

/**
 * Finds the best state for a shape without a full scan. Shapes that are nearly alike form a
 * family with one index of bounds, which follows only the slots that changed since it was
 * last asked. Bounds are tightened only at the top, and a shape's exact score is computed
 * only for slots whose bound reaches the best score found so far.
 */
export class Finder {
  private readonly cluster: Cluster;
  private readonly fitter: Fitter;
  private readonly policy: Policy;
  private readonly maxViews: number;
  private readonly views = new Map<number, View>();
  private readonly scores = new ScoreMemory();
  private uses = 0;
  private order: Int32Array = new Int32Array(0);

  // The search that is going on.
  private best = never;
  private winner = -1;
  /** Minus the winner's rank: among equal scores the greatest wins. */
  private winnerOrder = lastOrder;

  constructor(options: {
    readonly cluster: Cluster;
    readonly fitter: Fitter;
    readonly policy: Policy;
    /** Families of shapes that keep a view at a time; the least recently asked makes room. */
    readonly maxViews: number;
  }) {
    this.cluster = options.cluster;
    this.fitter = options.fitter;
    this.policy = options.policy;
    this.maxViews = options.maxViews;
  }

  /** The slot to use for the shape now, or -1 where it fits nowhere. */
  find(shape: Shape): number {
    this.order = this.cluster.order;
    const view = this.view(shape);
    this.follow(view, shape);
    const first = this.top(view, shape);
    // Where the tightened bounds are this shape's scores, the best bound is the best score.
    if (first < 0 || (this.policy.tighten !== undefined && isLeast(shape))) return first;
    this.best = never;
    this.winner = -1;
    this.winnerOrder = lastOrder;
    this.scores.prepare(this.policy.epoch, view.kind.length);
    const task = { view, shape };
    this.visit(task, first);
    this.search(task, view.bounds.levels.length - 1, 0);
    return this.winner;
  }

  /** The slot with the best bound once that is as tight as a bound gets; -1 where nothing fits. */
  private top(view: View, shape: Shape): number {
    const { bounds } = view;
    for (;;) {
      const slot = bounds.top();
      if (slot < 0) return -1;
      const order = this.order[slot]!;
      if (view.kind[slot] === open && this.policy.tighten !== undefined) {
        this.tighten(view, slot, shape);
      } else if (bounds.slots.order[slot] !== order) {
        bounds.set(slot, bounds.slots.value[slot]!, order);
      } else return slot;
    }
  }

  private tighten(view: View, slot: number, shape: Shape): number {
    view.kind[slot] = tight;
    const bound = this.policy.tighten!(slot, shape);
    view.bounds.set(slot, bound, this.order[slot]!);
    return bound;
  }

  /** Visits what can still win below one tree node, best bound first. */
  private search(task: SearchTask, level: number, index: number): void {
    if (level === 0) {
      this.visit(task, index);
      return;
    }
    const { bounds } = task.view;
    const { value, order } = bounds.levels[level - 1]!;
    const start = index * fan;
    const end = Math.min(start + fan, value.length);
    for (let done = 0; ;) {
      let child = -1;
      let bound = this.best;
      let bestOrder = this.winnerOrder;
      for (let at = start; at < end; at++) {
        if (value[at]! < bound || (value[at] === bound && order[at]! <= bestOrder)) continue;
        if ((done & (1 << (at - start))) !== 0) continue;
        bound = value[at]!;
        bestOrder = order[at]!;
        child = at;
      }
      if (child < 0) return;
      if (level > 1 && bounds.lower(level - 1, child)) continue;
      done |= 1 << (child - start);
      this.search(task, level - 1, child);
    }
  }

  /** Compares one slot's exact score with the best. */
  private visit({ view, shape }: SearchTask, slot: number): void {
    if (view.kind[slot] === open && this.policy.tighten !== undefined) {
      if (this.tighten(view, slot, shape) < this.best) return;
    }
    const score = this.exact(slot, shape);
    if (score === never) return;
    const order = this.order[slot]!;
    if (score < this.best || (score === this.best && order <= this.winnerOrder)) return;
    this.best = score;
    this.winner = slot;
    this.winnerOrder = order;
  }

  private exact(slot: number, shape: Shape): number {
    const { scores } = this;
    const stamp = this.cluster.states.stamp[slot]!;
    const at = scores.find(slot, shape.id, stamp);
    if (at < 0) return scores.score[-at - 1]!;
    const score = this.fitter.fits(slot, shape) ? this.policy.score(slot, shape) : never;
    scores.keep(at, { shapeId: shape.id, stamp, score });
    return score;
  }

  private view(shape: Shape): View {
    const key = this.policy.sharesBounds ? shape.familyId : shape.id;
    const slots = this.cluster.states.users.length;
    this.uses++;
    let view = this.views.get(key);
    if (view === undefined || view.kind.length !== slots) {
      if (view === undefined && this.views.size >= this.maxViews) this.evict();
      view = emptyView(slots);
      this.views.set(key, view);
    }
    view.used = this.uses;
    return view;
  }

  private evict(): void {
    let oldest = -1;
    let used = Number.POSITIVE_INFINITY;
    for (const [id, view] of this.views) {
      if (view.used < used) {
        used = view.used;
        oldest = id;
      }
    }
    this.views.delete(oldest);
  }

  /** Brings the view up to the cluster's present state and the policy's present epoch. */
  private follow(view: View, shape: Shape): void {
    const { states, changed, changes, latest } = this.cluster;
    if (view.epoch !== this.policy.epoch || view.version !== shape.family.version) {
      view.epoch = this.policy.epoch;
      view.version = shape.family.version;
      view.seen = -1;
    }
    const { seen } = view;
    view.seen = changes;
    if (seen < 0 || changes - seen > Math.min(changed.length, states.slots)) {
      for (let slot = 0; slot < states.slots; slot++) {
        if (seen < 0 || latest[2 * slot + 1]! >= seen) this.rebound(view, slot, shape);
        else this.reorder(view, slot);
      }
      return;
    }
    const mask = changed.length - 1;
    for (let at = seen; at < changes; at++) {
      const slot = changed[at & mask]!;
      // A later change of the slot comes yet.
      if (latest[2 * slot] !== at) continue;
      if (latest[2 * slot + 1]! >= seen) this.rebound(view, slot, shape);
      else this.reorder(view, slot);
    }
  }

  /** Takes in a slot's new content. */
  private rebound(view: View, slot: number, shape: Shape): void {
    const least = this.policy.sharesBounds ? shape.family : shape;
    if (this.fitter.fits(slot, shape, least)) {
      view.kind[slot] = open;
      view.bounds.set(slot, this.policy.bound(slot, shape), this.order[slot]!);
    } else if (view.kind[slot] !== closed) {
      view.kind[slot] = closed;
      view.bounds.set(slot, never, lastOrder);
    }
  }

  /** Takes in that another node of a slot is the first by id. */
  private reorder(view: View, slot: number): void {
    const order = this.order[slot]!;
    const { slots } = view.bounds;
    if (view.kind[slot] === closed || slots.order[slot] === order) return;
    view.bounds.set(slot, slots.value[slot]!, order);
  }
}

/** What a search looks at. */
interface SearchTask {
  readonly view: View;
  readonly shape: Shape;
}

/** The same answer as `Finder.find` by a plain scan over all nodes: the reference. */
export function findByScan(
  context: { readonly cluster: Cluster; readonly fitter: Fitter; readonly policy: Policy },
  shape: Shape,
  allowed?: (node: number) => boolean,
): number {
  const { cluster, fitter, policy } = context;
  let best = -1;
  let bestScore = never;
  for (const [node, { slot, spec }] of cluster.nodes.entries()) {
    if (slot < 0 || allowed?.(node) === false || !fitter.fits(slot, shape)) continue;
    const score = policy.score(slot, shape);
    const wins = score > bestScore;
    if (wins || (score === bestScore && spec.id < cluster.nodes[best]!.spec.id)) {
      best = node;
      bestScore = score;
    }
  }
  return best;
}

/** True for a shape that asks for no more than the least of its family. */
function isLeast({ cpuMillis, memoryMib, diskMib, family }: Shape): boolean {
  return (
    cpuMillis === family.cpuMillis && memoryMib === family.memoryMib && diskMib === family.diskMib
  );
}

function emptyView(slots: number): View {
  return {
    epoch: -1,
    version: -1,
    seen: -1,
    used: 0,
    bounds: new BoundTree(slots),
    kind: new Uint8Array(slots),
  };
}

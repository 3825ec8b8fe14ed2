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
  /** True while a tightened bound is the score of the shape that is asked for. */
  exact: boolean;
  readonly bounds: BoundTree;
  /** The slot's stamp for which its bound holds. */
  readonly stamp: Int32Array;
  /** 1: a first bound, which `tighten` may lower. */
  readonly open: Uint8Array;
}

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
    this.tightenTop(view, shape);
    if (view.bounds.max === never) return -1;
    this.best = never;
    this.winner = -1;
    this.winnerOrder = lastOrder;
    this.scores.prepare(this.policy.epoch, view.stamp.length);
    this.search({ view, shape }, view.bounds.levels.length - 1, 0);
    return this.winner;
  }

  /** Tightens the highest bound until it is as tight as a bound gets. */
  private tightenTop(view: View, shape: Shape): void {
    if (this.policy.tighten === undefined) return;
    while (view.bounds.max !== never) {
      const slot = view.bounds.top();
      if (view.open[slot] === 0) return;
      this.tighten(view, slot, shape);
    }
  }

  private tighten(view: View, slot: number, shape: Shape): number {
    view.open[slot] = 0;
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
    const { value, order } = task.view.bounds.levels[level - 1]!;
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
      done |= 1 << (child - start);
      this.search(task, level - 1, child);
    }
  }

  /** Compares one slot's exact score with the best. */
  private visit({ view, shape }: SearchTask, slot: number): void {
    if (view.open[slot] === 1 && this.policy.tighten !== undefined) {
      if (this.tighten(view, slot, shape) < this.best) return;
    }
    const score = view.exact ? view.bounds.levels[0]!.value[slot]! : this.exact(slot, shape);
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
    if (view === undefined || view.stamp.length !== slots) {
      if (view === undefined && this.views.size >= this.maxViews) this.evict();
      view = emptyView(slots);
      this.views.set(key, view);
    }
    view.used = this.uses;
    view.exact = this.policy.tighten !== undefined && isLeast(shape);
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
    const { states, changed, changes } = this.cluster;
    if (view.epoch !== this.policy.epoch || view.version !== shape.family.version) {
      view.epoch = this.policy.epoch;
      view.version = shape.family.version;
      view.stamp.fill(-1);
      view.seen = -1;
    }
    const { stamp } = states;
    const { order } = this;
    const bounded = view.bounds.levels[0]!;
    const all = view.seen < 0 || changes - view.seen > Math.min(changed.length, states.slots);
    const end = all ? states.slots : changes;
    for (let at = all ? 0 : view.seen; at < end; at++) {
      const slot = all ? at : changed[at % changed.length]!;
      if (view.stamp[slot] !== stamp[slot]) this.rebound(view, slot, shape);
      else if (bounded.order[slot] !== order[slot] && bounded.value[slot] !== never) {
        view.bounds.set(slot, bounded.value[slot]!, order[slot]!);
      }
    }
    view.seen = changes;
  }

  /** Takes in a slot's new content. */
  private rebound(view: View, slot: number, shape: Shape): void {
    const { states } = this.cluster;
    view.stamp[slot] = states.stamp[slot]!;
    const least = this.policy.sharesBounds ? shape.family : shape;
    if (states.users[slot] === 0 || !this.fitter.fits(slot, shape, least)) {
      view.open[slot] = 0;
      view.bounds.set(slot, never, lastOrder);
      return;
    }
    const bound = this.policy.bound(slot, shape);
    view.open[slot] = 1;
    view.bounds.set(slot, bound, this.order[slot]!);
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
    exact: false,
    bounds: new BoundTree(slots),
    stamp: new Int32Array(slots).fill(-1),
    open: new Uint8Array(slots),
  };
}

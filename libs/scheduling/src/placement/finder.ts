import type { Fitter } from "./checks.ts";
import type { Cluster } from "./cluster.ts";
import type { Policy } from "./policy.ts";
import type { Shape } from "./shapes.ts";

const blockBits = 6;
const blockSize = 1 << blockBits;

/** The scores of one shape over all slots, in blocks with a maximum each. */
interface View {
  epoch: number;
  /** The cluster's change counter up to which the view has followed. */
  seen: number;
  used: number;
  score: Float64Array;
  /** The slot's stamp for which `score` holds. */
  stamp: Int32Array;
  /** 0: `score` is exact; 1: a tightened bound; 2: a first bound. */
  open: Uint8Array;
  blockMax: Float64Array;
  blockDirty: Uint8Array;
}

/**
 * Finds the best state for a shape without a full scan: each shape keeps its scores and
 * follows only the slots that changed since it was last asked. Scores start as bounds
 * and are made exact only where a bound could win.
 */
export class Finder {
  private readonly cluster: Cluster;
  private readonly fitter: Fitter;
  private readonly policy: Policy;
  private readonly maxViews: number;
  private readonly views = new Map<number, View>();
  private uses = 0;

  constructor(options: {
    readonly cluster: Cluster;
    readonly fitter: Fitter;
    readonly policy: Policy;
    /** Shapes that keep a view at a time; the least recently asked one makes room. */
    readonly maxViews: number;
  }) {
    this.cluster = options.cluster;
    this.fitter = options.fitter;
    this.policy = options.policy;
    this.maxViews = options.maxViews;
  }

  /** The slot to use for the shape now, or -1 where it fits nowhere. */
  find(shape: Shape): number {
    const view = this.view(shape);
    this.follow(view, shape);
    for (;;) {
      const best = blocksMax(view);
      if (best === Number.NEGATIVE_INFINITY) return -1;
      const slot = this.resolve(view, shape, best);
      if (slot >= 0) return slot;
    }
  }

  /** Makes the bounds that equal `best` exact; answers the winner among those that keep it. */
  private resolve(view: View, shape: Shape, best: number): number {
    const { cluster } = this;
    let winner = -1;
    let winnerRank = -1;
    for (let block = 0; block < view.blockMax.length; block++) {
      if (view.blockMax[block] !== best) continue;
      const end = Math.min((block + 1) << blockBits, cluster.states.slots);
      for (let slot = block << blockBits; slot < end; slot++) {
        if (view.score[slot] !== best) continue;
        // An equal score at a higher id cannot win: its bound may stay a bound.
        if (winner >= 0 && cluster.firstRank(slot) > winnerRank) continue;
        if (view.open[slot] !== 0 && !this.settle(view, slot, shape)) continue;
        winner = slot;
        winnerRank = cluster.firstRank(slot);
      }
    }
    return winner;
  }

  /** Makes a bound exact, in steps, while it stays as high; false once it has sunk. */
  private settle(view: View, slot: number, shape: Shape): boolean {
    const { policy } = this;
    const best = view.score[slot];
    if (view.open[slot] === 2 && policy.tighten !== undefined) {
      view.open[slot] = 1;
      const bound = policy.tighten(slot, shape);
      if (bound !== best) {
        setScore(view, slot, bound);
        return false;
      }
    }
    view.open[slot] = 0;
    const score = policy.score(slot, shape);
    if (score === best) return true;
    setScore(view, slot, score);
    return false;
  }

  private view(shape: Shape): View {
    this.uses++;
    let view = this.views.get(shape.id);
    if (view === undefined) {
      if (this.views.size >= this.maxViews) this.evict();
      view = emptyView(this.cluster.states.users.length);
      this.views.set(shape.id, view);
    } else if (view.score.length < this.cluster.states.slots) {
      Object.assign(view, emptyView(this.cluster.states.users.length));
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
    const { states, changed, changes } = this.cluster;
    if (view.epoch !== this.policy.epoch) {
      view.epoch = this.policy.epoch;
      view.stamp.fill(-1);
      view.seen = -1;
    }
    if (view.seen < 0 || changes - view.seen > Math.min(changed.length, states.slots)) {
      for (let slot = 0; slot < states.slots; slot++) this.rescore(view, slot, shape);
    } else {
      const mask = changed.length;
      for (let at = view.seen; at < changes; at++) this.rescore(view, changed[at % mask]!, shape);
    }
    view.seen = changes;
  }

  private rescore(view: View, slot: number, shape: Shape): void {
    const stamp = this.cluster.states.stamp[slot]!;
    if (view.stamp[slot] === stamp) return;
    view.stamp[slot] = stamp;
    if (this.cluster.states.users[slot] === 0 || !this.fitter.fits(slot, shape)) {
      view.open[slot] = 0;
      setScore(view, slot, Number.NEGATIVE_INFINITY);
      return;
    }
    view.open[slot] = 2;
    setScore(view, slot, this.policy.bound(slot, shape));
  }
}

/** The same answer as `Finder.find` by a plain scan over all nodes: the reference. */
export function findByScan(
  context: { readonly cluster: Cluster; readonly fitter: Fitter; readonly policy: Policy },
  shape: Shape,
  allowed?: (node: number) => boolean,
): number {
  const { cluster, fitter, policy } = context;
  let best = -1;
  let bestScore = Number.NEGATIVE_INFINITY;
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

function emptyView(slots: number): View {
  const blocks = Math.ceil(slots / blockSize);
  return {
    epoch: -1,
    seen: -1,
    used: 0,
    score: new Float64Array(slots).fill(Number.NEGATIVE_INFINITY),
    stamp: new Int32Array(slots).fill(-1),
    open: new Uint8Array(slots),
    blockMax: new Float64Array(blocks).fill(Number.NEGATIVE_INFINITY),
    blockDirty: new Uint8Array(blocks),
  };
}

function setScore(view: View, slot: number, score: number): void {
  const old = view.score[slot]!;
  view.score[slot] = score;
  const block = slot >> blockBits;
  if (score >= view.blockMax[block]!) view.blockMax[block] = score;
  else if (old === view.blockMax[block]) view.blockDirty[block] = 1;
}

function blocksMax(view: View): number {
  let best = Number.NEGATIVE_INFINITY;
  for (let block = 0; block < view.blockMax.length; block++) {
    if (view.blockDirty[block] === 1) {
      view.blockDirty[block] = 0;
      let max = Number.NEGATIVE_INFINITY;
      const end = Math.min((block + 1) << blockBits, view.score.length);
      for (let slot = block << blockBits; slot < end; slot++) {
        if (view.score[slot]! > max) max = view.score[slot]!;
      }
      view.blockMax[block] = max;
    }
    if (view.blockMax[block]! > best) best = view.blockMax[block]!;
  }
  return best;
}

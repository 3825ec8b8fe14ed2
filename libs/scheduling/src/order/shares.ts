/** One queue of the hierarchy organisation → project → user. GPUs are counted in thousandths (milli-GPU). */
export interface ShareNode {
  /** Index of the parent, which comes before its children; -1 for a root. */
  readonly parent: number;
  /** Relative part of what the parent gets; > 0. */
  readonly weight: number;
  /** What it gets first whenever it has demand; others may borrow it meanwhile. */
  readonly guaranteedMilli: number;
  /** What it may never pass; Infinity: no limit. */
  readonly limitMilli: number;
}

/** A child's claim in one division. */
interface Claim {
  readonly weight: number;
  /** What it gets first. */
  readonly floor: number;
  /** What it can use at most. */
  readonly cap: number;
}

/**
 * Divides an amount by weighted max-min ("water-filling"; Bertsekas and Gallager, Data Networks, 6.5.2) with floors:
 * each gets clamp(level × weight, floor, cap) at the one level that spends the amount. Floors that do not fit
 * together shrink in proportion. Exact up to floating-point rounding, O(k²) in the worst case.
 */
export function divide(amount: number, claims: readonly Claim[]): number[] {
  const floors = claims.map((claim) => Math.min(claim.floor, claim.cap));
  const floorSum = floors.reduce((sum, floor) => sum + floor, 0);
  if (floorSum >= amount) {
    return floors.map((floor) => (floorSum === 0 ? 0 : (floor * amount) / floorSum));
  }
  const given = floors.slice();
  const state: ("free" | "floor" | "cap")[] = claims.map(() => "free");
  // Fix whoever is pushed to a bound in the direction of the imbalance; each round fixes at least one.
  for (;;) {
    let rest = amount;
    let weights = 0;
    for (const [at, claim] of claims.entries()) {
      if (state[at] === "free") weights += claim.weight;
      else rest -= given[at]!;
    }
    if (weights === 0) return given;
    const level = Math.max(0, rest) / weights;
    let excess = 0;
    for (const [at, claim] of claims.entries()) {
      if (state[at] !== "free") continue;
      const raw = level * claim.weight;
      given[at] = Math.min(Math.max(raw, floors[at]!), claim.cap);
      excess += given[at]! - raw;
    }
    let fixed = false;
    for (const [at, claim] of claims.entries()) {
      if (state[at] !== "free") continue;
      const raw = level * claim.weight;
      const low = raw < floors[at]!;
      const high = raw > claim.cap;
      if ((excess >= 0 && low) || (excess <= 0 && high)) {
        state[at] = low ? "floor" : "cap";
        fixed = true;
      }
    }
    if (!fixed) return given;
  }
}

/** The queues, what each holds and wants, and what would be fair. Indexes are those of the nodes given. */
export class ShareTree {
  readonly nodes: readonly ShareNode[];
  /** Milli-GPUs that run, by node, descendants included. */
  readonly allocatedMilli: Float64Array;
  /** Milli-GPUs that run or wait, by node, descendants included. */
  readonly demandMilli: Float64Array;
  private readonly children: number[][];
  private readonly roots: number[] = [];

  /** Throws RangeError for a node that is not valid. */
  constructor(nodes: readonly ShareNode[]) {
    this.nodes = nodes;
    this.allocatedMilli = new Float64Array(nodes.length);
    this.demandMilli = new Float64Array(nodes.length);
    this.children = nodes.map(() => []);
    for (const [index, node] of nodes.entries()) {
      const valid =
        node.parent < index &&
        node.weight > 0 &&
        node.guaranteedMilli >= 0 &&
        node.limitMilli >= node.guaranteedMilli;
      if (!valid) throw new RangeError(`queue ${index} is not valid: ${JSON.stringify(node)}`);
      if (node.parent < 0) this.roots.push(index);
      else this.children[node.parent]!.push(index);
    }
  }

  /** The topmost ancestor of a queue. */
  rootOf(leaf: number): number {
    let at = leaf;
    while (this.nodes[at]!.parent >= 0) at = this.nodes[at]!.parent;
    return at;
  }

  /** Adds to what a leaf and its ancestors hold. */
  allocate(leaf: number, milli: number): void {
    for (let at = leaf; at >= 0; at = this.nodes[at]!.parent) this.allocatedMilli[at]! += milli;
  }

  /** Adds to what a leaf and its ancestors want. */
  want(leaf: number, milli: number): void {
    for (let at = leaf; at >= 0; at = this.nodes[at]!.parent) this.demandMilli[at]! += milli;
  }

  /** The first node from the leaf upwards whose limit forbids so much more, or -1. */
  limitedBy(allocated: Float64Array, leaf: number, milli: number): number {
    for (let at = leaf; at >= 0; at = this.nodes[at]!.parent) {
      if (allocated[at]! + milli > this.nodes[at]!.limitMilli) return at;
    }
    return -1;
  }

  /** What would be fair now, by node, in milli-GPUs: hierarchical weighted max-min of demand over the capacity. */
  fair(capacityMilli: number): Float64Array {
    const fair = new Float64Array(this.nodes.length);
    const usable = this.usable();
    const share = (amount: number, members: readonly number[]): void => {
      const wanting = members.filter((at) => usable[at]! > 0);
      const parts = divide(
        amount,
        wanting.map((at) => ({
          weight: this.nodes[at]!.weight,
          floor: this.nodes[at]!.guaranteedMilli,
          cap: usable[at]!,
        })),
      );
      for (const [index, at] of wanting.entries()) {
        fair[at] = parts[index]!;
        share(fair[at]!, this.children[at]!);
      }
    };
    share(capacityMilli, this.roots);
    return fair;
  }

  /** Demand that limits leave: of a parent, what its children can use together. */
  private usable(): Float64Array {
    const usable = new Float64Array(this.nodes.length);
    for (let at = this.nodes.length - 1; at >= 0; at--) {
      const kids = this.children[at]!;
      const want =
        kids.length === 0
          ? this.demandMilli[at]!
          : kids.reduce((sum, kid) => sum + usable[kid]!, 0);
      usable[at] = Math.min(want, this.nodes[at]!.limitMilli);
    }
    return usable;
  }
}

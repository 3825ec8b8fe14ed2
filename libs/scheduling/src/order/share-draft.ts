import type { OrderPolicy } from "./policy.ts";
import { bentMd, shareMd } from "./score.ts";
import type { ShareTree } from "./shares.ts";

/**
 * What each queue of the tree holds in the course of one plan, beside what would be fair: gives the share term of a
 * leaf, and says who is entitled to its guarantee and who is protected by it. A copy: the tree itself stays as it is.
 */
export class ShareDraft {
  readonly allocated: Float64Array;
  readonly fair: Float64Array;
  private readonly terms: Float64Array;
  /** Sums of terms by leaf, where they are known since the last change; NaN where not. */
  private readonly sums: Float64Array;
  private readonly policy: OrderPolicy;
  private readonly boundMd: number;
  private readonly tree: ShareTree;
  /** Queues without one beside them: they have all of what their parent has, and no share of it to be off. */
  private readonly alone: readonly boolean[];
  /** Whether any queue has a guarantee. */
  readonly hasGuarantees: boolean;
  private readonly leafMd: ArrayLike<number> | undefined;

  /** `leafMd` is added to each leaf's term: more than the present that counts. */
  constructor(
    policy: OrderPolicy,
    tree: ShareTree,
    capacityMilli: number,
    leafMd?: ArrayLike<number>,
  ) {
    this.leafMd = leafMd;
    this.policy = policy;
    this.boundMd = bentMd(policy, policy.shareClampMd, policy.shareWeightMd);
    this.tree = tree;
    this.allocated = tree.allocatedMilli.slice();
    this.fair = tree.fair(capacityMilli);
    this.terms = new Float64Array(tree.nodes.length);
    this.sums = new Float64Array(tree.nodes.length).fill(Number.NaN);
    const children = new Int32Array(tree.nodes.length + 1);
    for (const { parent } of tree.nodes) children[parent + 1]!++;
    this.alone = tree.nodes.map(({ parent }) => children[parent + 1] === 1);
    this.hasGuarantees = tree.nodes.some((node) => node.guaranteedMilli > 0);
    for (let at = 0; at < this.terms.length; at++) this.refresh(at);
  }

  /** Adds to what a leaf and its ancestors hold. */
  change(leaf: number, milli: number): void {
    const { nodes } = this.tree;
    for (let at = leaf; at >= 0; at = nodes[at]!.parent) {
      this.allocated[at]! += milli;
      this.refresh(at);
    }
    this.sums.fill(Number.NaN);
  }

  /** The share term of a leaf: the sum over its levels, bounded, in millidoublings. */
  termMd(leaf: number): number {
    const known = this.sums[leaf]!;
    if (!Number.isNaN(known)) return known;
    return (this.sums[leaf] = this.sumOf(leaf));
  }

  private sumOf(leaf: number): number {
    const { nodes } = this.tree;
    let sum = this.leafMd?.[leaf] ?? 0;
    for (let at = leaf; at >= 0; at = nodes[at]!.parent) sum += this.terms[at]!;
    return Math.min(this.boundMd, Math.max(-this.boundMd, sum));
  }

  /** The queue from the leaf upwards whose limit forbids so much more, or -1. */
  limitedBy(leaf: number, milli: number): number {
    return this.tree.limitedBy(this.allocated, leaf, milli);
  }

  /** Whether some queue on the way up stays within its guarantee with so much more. */
  entitled(leaf: number, milli: number): boolean {
    if (!this.hasGuarantees) return false;
    const { nodes } = this.tree;
    for (let at = leaf; at >= 0; at = nodes[at]!.parent) {
      const { guaranteedMilli } = nodes[at]!;
      if (guaranteedMilli > 0 && this.allocated[at]! + milli <= guaranteedMilli) return true;
    }
    return false;
  }

  /** Whether taking so much from `victimLeaf` for `leaf` would cut into a guarantee that is not also the taker's. */
  protects(victimLeaf: number, milli: number, leaf: number): boolean {
    if (!this.hasGuarantees) return false;
    const { nodes } = this.tree;
    for (let at = victimLeaf; at >= 0; at = nodes[at]!.parent) {
      const { guaranteedMilli } = nodes[at]!;
      if (guaranteedMilli > 0 && this.allocated[at]! - milli < guaranteedMilli) {
        return !this.covers(at, leaf);
      }
    }
    return false;
  }

  /** Whether a queue is the leaf or one of its ancestors. */
  covers(queue: number, leaf: number): boolean {
    for (let at = leaf; at >= 0; at = this.tree.nodes[at]!.parent) if (at === queue) return true;
    return false;
  }

  private refresh(at: number): void {
    if (this.alone[at] === true) return;
    this.terms[at] = shareMd(this.policy, this.allocated[at]!, this.fair[at]!);
  }
}

import { IntHeap } from "./heap.ts";

/** What the order of groups goes by. */
interface Scores {
  /** Leaf of the tree that a group is of. */
  leaf(group: number): number;
  /** Score of a group's first job without the share term of its leaf. */
  baseMd(group: number): number;
  /** What is added to that for a guarantee. */
  entitledMd(group: number): number;
  /** Share term of a leaf as of now: a change of what leaves hold moves all groups of a leaf by as much. */
  termMd(leaf: number): number;
  /** Ties: by the submit of the first job, then by this number of its own. */
  submitMs(group: number): number;
  tie(group: number): number;
}

/**
 * Groups by the score of their first job, the lowest first. A heap of leaves over a heap of groups for each: while tasks
 * are placed one after the other share terms rise, and then leaves go back to where they belong, not each of their groups.
 */
export class FirstGroups {
  private readonly of: Scores;
  private readonly base: Float64Array;
  private readonly entitled: Float64Array;
  private readonly submits: Float64Array;
  private readonly ties: Float64Array;
  /** By leaf: its score when it was put in order, and its first group then. */
  private readonly scores: Float64Array;
  private readonly firsts: Int32Array;
  private readonly leaves: IntHeap;
  private readonly groups: (IntHeap | undefined)[];
  private readonly inGroups: (a: number, b: number) => boolean;
  private readonly places: Int32Array;

  constructor(sizes: { readonly groups: number; readonly leaves: number }, of: Scores) {
    this.of = of;
    const { groups, leaves } = sizes;
    const [base, entitled] = [new Float64Array(groups), new Float64Array(groups)];
    const [submits, ties] = [new Float64Array(groups), new Float64Array(groups)];
    const [scores, firsts] = [new Float64Array(leaves), new Int32Array(leaves)];
    const places = new Int32Array(groups);
    const leafPlaces = new Int32Array(leaves);
    const sooner = (a: number, b: number): boolean =>
      submits[a]! < submits[b]! || (submits[a] === submits[b] && ties[a]! < ties[b]!);
    this.inGroups = (a, b) => {
      const difference = base[a]! + entitled[a]! - (base[b]! + entitled[b]!);
      return difference < 0 || (difference === 0 && sooner(a, b));
    };
    this.leaves = new IntHeap({
      before: (a, b) =>
        scores[a]! < scores[b]! || (scores[a] === scores[b] && sooner(firsts[a]!, firsts[b]!)),
      places: () => leafPlaces,
    });
    this.base = base;
    this.entitled = entitled;
    this.submits = submits;
    this.ties = ties;
    this.scores = scores;
    this.firsts = firsts;
    this.places = places;
    this.groups = Array.from({ length: leaves }, () => undefined);
  }

  /** Whether there is no group left. */
  get isEmpty(): boolean {
    return this.leaves.size === 0;
  }

  /** A group comes in, by its first job. */
  enter(group: number): void {
    this.put(group);
    const leaf = this.of.leaf(group);
    // Who is not the first of its leaf leaves that where it is.
    if (!this.leaves.has(leaf) || this.groups[leaf]!.peek() === group) this.settle(leaf);
  }

  /** Takes the first group out, with its score. */
  take(): { readonly group: number; readonly scoreMd: number } {
    for (;;) {
      const leaf = this.leaves.peek();
      const group = this.firsts[leaf]!;
      const scoreMd = this.scoreOf(group, leaf);
      if (scoreMd > this.scores[leaf]!) {
        // Its queue got something since: it goes back to where it belongs now.
        this.groups[leaf]!.remove(group);
        this.put(group);
        this.settle(leaf);
        continue;
      }
      this.groups[leaf]!.remove(group);
      this.settle(leaf);
      return { group, scoreMd };
    }
  }

  /** Scores of those of these groups that are in may have become lower. */
  renew(groups: readonly number[]): void {
    const leaves = new Set<number>();
    for (const group of groups) {
      const leaf = this.of.leaf(group);
      const heap = this.groups[leaf];
      if (heap?.has(group) !== true) continue;
      heap.remove(group);
      this.put(group);
      leaves.add(leaf);
    }
    for (const leaf of leaves) this.settle(leaf);
  }

  /** Share terms of these leaves may have become lower. */
  fell(leaves: Iterable<number>): void {
    for (const leaf of leaves) this.settle(leaf);
  }

  private put(group: number): void {
    this.base[group] = this.of.baseMd(group);
    this.entitled[group] = this.of.entitledMd(group);
    this.submits[group] = this.of.submitMs(group);
    this.ties[group] = this.of.tie(group);
    const { places } = this;
    const heap = (this.groups[this.of.leaf(group)] ??= new IntHeap({
      before: this.inGroups,
      places: () => places,
    }));
    heap.push(group);
  }

  private scoreOf(group: number, leaf: number): number {
    return this.of.baseMd(group) + this.of.termMd(leaf) + this.of.entitledMd(group);
  }

  /** Puts a leaf where it belongs. */
  private settle(leaf: number): void {
    const { leaves, scores, firsts } = this;
    if (leaves.has(leaf)) leaves.remove(leaf);
    const group = this.groups[leaf]?.peek() ?? -1;
    if (group < 0) return;
    firsts[leaf] = group;
    scores[leaf] = this.base[group]! + this.of.termMd(leaf) + this.entitled[group]!;
    leaves.push(leaf);
  }
}

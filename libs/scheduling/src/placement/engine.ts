import { Fitter } from "./checks.ts";
import { Cluster } from "./cluster.ts";
import type { Placement } from "./cluster.ts";
import { Draft } from "./draft.ts";
import { explainFit } from "./explain.ts";
import type { FitReport } from "./explain.ts";
import { createDefaultPolicy } from "./default-policy.ts";
import { createFgdPolicy } from "./fgd-policy.ts";
import { findByScan, Finder } from "./finder.ts";
import { bestMigStart } from "./mig.ts";
import { Mix, type LearnedMix } from "./mix.ts";
import type { NodeSpec } from "./nodes.ts";
import type { Policy, PolicyFactory } from "./policy.ts";
import { createShapeTable, maxGpusPerNode } from "./shapes.ts";
import type { ResourceRequest, Shape } from "./shapes.ts";
import { stateHash } from "./state-hash.ts";
import {
  createBestFitPolicy,
  createPackingPolicy,
  createRandomPolicy,
  createSpreadingPolicy,
} from "./simple-policies.ts";

/** The policies by name. */
export const policies = {
  default: (context) => createDefaultPolicy(context),
  fgd: createFgdPolicy,
  bestfit: createBestFitPolicy,
  packing: createPackingPolicy,
  spreading: createSpreadingPolicy,
  random: createRandomPolicy,
} as const satisfies Readonly<Record<string, PolicyFactory>>;

/** The name of a policy. */
export type PolicyName = keyof typeof policies;

/** Settings of an engine. */
export interface EngineOptions {
  readonly nodes: readonly NodeSpec[];
  readonly policy: PolicyName | PolicyFactory;
  /** Uniform in [0, 1); asked only by policies that draw. */
  readonly rng: () => number;
  /** Largest node that will ever be added; default 64, which is the most. */
  readonly maxGpusPerNode?: number;
  /** What another engine has learned, to go on from; default: nothing. Nothing learned is forgotten. */
  readonly learned?: LearnedMix;
  /** Families of shapes with an index at a time (about 20 bytes × nodes each); default 512. */
  readonly maxIndexedShapes?: number;
}

/** Decides where tasks go, and keeps what is free: one decision at a time, no clock, no IO. */
export class PlacementEngine {
  readonly cluster: Cluster;
  readonly fitter: Fitter;
  readonly mix: Mix;
  readonly policy: Policy;
  private readonly finder: Finder;
  private readonly rng: () => number;
  private readonly positions: number[] = [];

  constructor(options: EngineOptions) {
    this.cluster = new Cluster({
      shapes: createShapeTable(),
      maxGpusPerNode: options.maxGpusPerNode ?? maxGpusPerNode,
    });
    for (const node of options.nodes) this.cluster.addNode(node);
    this.fitter = new Fitter(this.cluster);
    this.mix = new Mix();
    if (options.learned !== undefined) {
      this.mix.restore(options.learned, (request) => this.shape(request));
    }
    this.rng = options.rng;
    const { cluster, fitter, mix } = this;
    const factory: PolicyFactory =
      typeof options.policy === "string" ? policies[options.policy] : options.policy;
    this.policy = factory({ cluster, fitter, mix });
    const maxViews = options.maxIndexedShapes ?? 512;
    this.finder = new Finder({ cluster, fitter, policy: this.policy, maxViews });
  }

  /** Registers a request; throws RangeError for one that `checkRequest` refuses. */
  shape(request: ResourceRequest): Shape {
    return this.cluster.shapes.intern(request);
  }

  /** Counts the arrival of a task: what the default policy learns its mix from. Once a task. */
  observe(shape: Shape): void {
    this.mix.observe(shape);
  }

  /** Where the shape should go now; undefined where it fits nowhere. Changes nothing. */
  find(shape: Shape): Placement | undefined {
    this.policy.refresh();
    if (this.policy.anyNode) return this.findAny(shape);
    const slot = this.finder.find(shape);
    return slot < 0 ? undefined : this.at(this.cluster.firstNode(slot), shape);
  }

  /** `find` by a plain scan, optionally over some nodes only: the reference for the fast path. */
  findByScan(shape: Shape, allowed?: (node: number) => boolean): Placement | undefined {
    this.policy.refresh();
    const node = findByScan(this, shape, allowed);
    return node < 0 ? undefined : this.at(node, shape);
  }

  /** Finds a place and takes it. */
  place(shape: Shape): Placement | undefined {
    const placement = this.find(shape);
    if (placement !== undefined) this.cluster.place(shape, placement);
    return placement;
  }

  /** Takes a place found earlier. Throws RangeError where it is not free any more. */
  take(shape: Shape, placement: Placement): void {
    this.cluster.place(shape, placement);
  }

  /** Gives a place back. */
  release(shape: Shape, placement: Placement): void {
    this.cluster.release(shape, placement);
  }

  /** A trial: places taken through it can be rolled back. */
  draft(): Draft {
    return new Draft(this);
  }

  /** How many nodes would take the shape now, and what stops the others. */
  explain(shape: Shape): FitReport {
    return explainFit(this.cluster, shape);
  }

  /** A digest of what is free, to compare a rebuilt state with the live one. */
  hash(): string {
    return stateHash(this.cluster);
  }

  /** Adds an empty node; answers its index. Throws RangeError on a known id. */
  addNode(spec: NodeSpec): number {
    return this.cluster.addNode(spec);
  }

  /** Takes in a changed node (cordoned, a GPU closed or added); what runs on it stays. */
  replaceNode(
    node: number,
    spec: NodeSpec,
    running: readonly { readonly shape: Shape; readonly gpus: readonly number[] }[],
  ): void {
    this.cluster.replaceNode(node, spec);
    for (const { shape, gpus } of running) this.cluster.place(shape, { node, gpus });
  }

  /** Removes a node with whatever is placed on it. */
  removeNode(node: number): void {
    this.cluster.removeNode(node);
  }

  private at(node: number, shape: Shape): Placement {
    const { slot, order } = this.cluster.nodes[node]!;
    this.policy.choose(slot, shape, this.positions);
    const gpus = this.positions.map((position) => order[position]!);
    const { mig } = shape;
    if (mig === undefined) return { node, gpus };
    const { base, owner } = this.cluster.states;
    const starts = this.positions.map((at) => bestMigStart(mig, owner[base[slot]! + at]!));
    return { node, gpus, starts };
  }

  private findAny(shape: Shape): Placement | undefined {
    const fitting: number[] = [];
    for (const [node, { slot }] of this.cluster.nodes.entries()) {
      if (slot >= 0 && this.fitter.fits(slot, shape)) fitting.push(node);
    }
    const drawn = fitting[Math.floor(this.rng() * fitting.length)];
    return drawn === undefined ? undefined : this.at(drawn, shape);
  }
}

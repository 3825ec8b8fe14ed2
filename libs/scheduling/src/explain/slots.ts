import type { Demand, PlanGpu, PlanNode, PlanTask } from "../plan.ts";

/** Nodes that differ in nothing that a demand could tell. */
interface Alike {
  readonly nodes: readonly PlanNode[];
  readonly gpus: number;
}

/** With the times of their GPUs. */
interface Kind extends Alike {
  /** Its place among the kinds. */
  readonly at: number;
  /** Times from which each GPU is free: a row for each node, ascending. */
  readonly freeMs: Float64Array;
  /** By width less 1: on which node so many GPUs are free first; made when first asked. */
  readonly trees: (Int32Array | undefined)[];
  /** Until then GPUs of it are kept for somebody who has to wait for more of them. */
  keptUntilMs: number;
}

/** Where a member finds its GPUs. */
interface Spot {
  readonly kind: Kind;
  readonly row: number;
  /** GPUs that it counts as. */
  readonly width: number;
  readonly atMs: number;
}

/** GPUs set aside, with the times from which they were free. */
interface Taken extends Spot {
  readonly freeMs: readonly number[];
}

/** GPUs that are idle until somebody starts who needs more of them. */
interface Gap {
  /** Place of the kind. */
  readonly kind: number;
  /** Ascending. */
  readonly freeMs: number[];
  readonly untilMs: number;
}

/** When something is taken, and for how long. */
interface Span {
  /** Not before. */
  readonly fromMs: number;
  readonly forMs: number;
  /** The present: what is not free by then has to be waited for. */
  readonly nowMs: number;
}

/** Taken from a time on, or (nothing is taken) not now: until that time it need not be asked for again. */
export interface Start {
  readonly kind: "starts" | "waits";
  readonly atMs: number;
}

/** What is taken: so many members alike. */
type Wanted = Pick<PlanTask, "replicas" | "topology">;
/** By kind the GPUs that a member counts as there; 0: it finds no room on it. */
export type Widths = Int32Array;

/** Gaps that are looked through for a task, the newest. */
const maxGaps = 128;

/** The kinds of nodes of a fleet, the same whatever holds them. */
export class NodeKinds {
  readonly kinds: readonly Alike[];

  constructor(nodes: readonly PlanNode[]) {
    const open = nodes.filter(({ acceptsWork, gpus }) => acceptsWork && gpus.length > 0);
    this.kinds = [...Map.groupBy(open, keyOf).values()].map((alike) => ({
      nodes: alike,
      gpus: alike[0]!.gpus.length,
    }));
  }

  /** What a member counts as. */
  widthsOf(demand: Demand): Widths {
    return Int32Array.from(this.kinds, ({ nodes }) => widthOn(demand, nodes[0]!) ?? 0);
  }
}

/**
 * The GPUs of a fleet as times from which each is free, node by node: who comes takes the node on which as many as it
 * needs are free now. Where there are none, GPUs are kept for the first who waits for some of a kind, and what is idle
 * until then goes to who is done by then. A member that needs
 * more of a node's CPU, memory or disk than its GPUs' part of it counts as so many more GPUs; a part of a GPU counts as all
 * of it.
 */
export class Slots {
  /** Another number whenever something was taken: what waited before may not wait any more, or longer. */
  version = 0;
  private readonly kinds: readonly Kind[];
  private gaps: Gap[] = [];

  /** `freeMs` says from when each GPU of a node is free; Infinity: never. */
  constructor(alike: NodeKinds, freeMs: (node: PlanNode) => readonly number[]) {
    this.kinds = alike.kinds.map(({ nodes, gpus }, at) => {
      const times = new Float64Array(gpus * nodes.length);
      for (const [row, node] of nodes.entries()) {
        times.set(
          [...freeMs(node)].sort((a, b) => a - b),
          row * gpus,
        );
      }
      const trees = Array.from({ length: gpus }, () => undefined);
      return { at, nodes, gpus, freeMs: times, trees, keptUntilMs: 0 };
    });
  }

  /** From when any GPU is free; Infinity: never. */
  get firstMs(): number {
    let first = Infinity;
    for (const kind of this.kinds) first = Math.min(first, firstOn(kind, 1));
    return first;
  }

  /**
   * Takes what all members of a task need for so long, from the first time on at which it is free. Nothing is taken where
   * that is not now and GPUs are kept for another already, or where it is never (Infinity); nor for a
   * trial, which is told when it would be.
   */
  take(task: Wanted, widths: Widths, span: Span, trial = false): Start {
    if (task.replicas === 1) {
      const atMs = this.takeGap(widths, span, trial);
      if (atMs !== undefined) return { kind: "starts", atMs };
      const waits = this.waitsAlone(widths, span);
      if (waits !== undefined) return waits;
    }
    const { kinds } = this;
    const taken = isAnywhere(task)
      ? firstSpots(kinds, widths, task)
      : spotsWithin(kinds, widths, task);
    const atMs =
      taken.length === 0
        ? Infinity
        : taken.reduce((latest, spot) => Math.max(latest, spot.atMs), span.fromMs);
    const waits = atMs > Math.max(span.fromMs, span.nowMs);
    if (atMs === Infinity || (waits && taken.some(({ kind }) => kind.keptUntilMs > span.nowMs))) {
      for (const each of taken) put(each, each.freeMs);
      return { kind: atMs === Infinity ? "starts" : "waits", atMs };
    }
    if (trial) {
      for (const each of taken) put(each, each.freeMs);
      return { kind: "starts", atMs };
    }
    this.version++;
    for (const each of taken) {
      const { kind, freeMs, width } = each;
      if (waits) kind.keptUntilMs = Math.max(kind.keptUntilMs, atMs);
      const idle = freeMs.filter((from) => from < atMs);
      if (idle.length > 0) this.gaps.push({ kind: kind.at, freeMs: idle, untilMs: atMs });
      put(
        each,
        Array.from({ length: width }, () => atMs + span.forMs),
      );
    }
    if (this.gaps.length > 2 * maxGaps) this.gaps = this.gaps.slice(-maxGaps);
    return { kind: "starts", atMs };
  }

  /** The same as taking it would tell, of what has to wait behind who GPUs are kept for. */
  private waitsAlone(widths: Widths, { fromMs, nowMs }: Span): Start | undefined {
    const spot = firstOf(this.kinds, widths);
    if (spot === undefined || spot.kind.keptUntilMs <= nowMs) return undefined;
    const atMs = Math.max(spot.atMs, fromMs);
    return atMs > Math.max(fromMs, nowMs) ? { kind: "waits", atMs } : undefined;
  }

  private takeGap(widths: Widths, { fromMs, forMs }: Span, trial: boolean): number | undefined {
    const { gaps } = this;
    if (gaps.length === 0) return undefined;
    const elsewhereMs = Math.max(fromMs, firstOf(this.kinds, widths)?.atMs ?? Infinity);
    let found: Gap | undefined;
    let foundMs = Infinity;
    for (let at = 0; at < gaps.length; at++) {
      const gap = gaps[at]!;
      if (fromMs + forMs > gap.untilMs) continue;
      const width = widths[gap.kind]!;
      if (width === 0 || width > gap.freeMs.length) continue;
      const atMs = Math.max(fromMs, gap.freeMs[width - 1]!);
      if (atMs + forMs > gap.untilMs || atMs > elsewhereMs) continue;
      if (atMs < foundMs) [found, foundMs] = [gap, atMs];
    }
    if (found === undefined || trial) return found && foundMs;
    this.version++;
    found.freeMs.fill(foundMs + forMs, 0, widths[found.kind]!).sort((a, b) => a - b);
    return foundMs;
  }
}

const isAnywhere = ({ topology, replicas }: Wanted): boolean =>
  replicas === 1 || (topology.within === undefined && topology.spreadOver === undefined);

/** Sets the GPUs of all members aside, one after the other where they are free first; none: there are not as many. */
function firstSpots(kinds: readonly Kind[], widths: Widths, { replicas }: Wanted): Taken[] {
  const taken: Taken[] = [];
  while (taken.length < replicas) {
    const spot = firstOf(kinds, widths);
    if (spot === undefined) break;
    taken.push(setAside(spot));
  }
  if (taken.length === replicas) return taken;
  for (const each of taken) put(each, each.freeMs);
  return [];
}

/** The same within one place, or spread over several: of all such places the one that is free first. */
function spotsWithin(
  kinds: readonly Kind[],
  widths: Widths,
  { replicas, topology }: Wanted,
): Taken[] {
  const { within, spreadOver } = topology;
  const placeOf = (by: "node" | "nvlink" | "rack", { id, topology: at }: PlanNode) =>
    by === "node" ? id : at[by];
  const places = new Map<string, (Spot & { readonly part: string })[]>();
  for (const kind of kinds) {
    const width = widths[kind.at]!;
    if (width === 0) continue;
    for (const [row, node] of kind.nodes.entries()) {
      const place = within === undefined ? "" : placeOf(within, node);
      if (place === undefined) continue;
      const spots = places.get(place) ?? [];
      places.set(place, spots);
      for (let last = width; last <= kind.gpus; last += width) {
        const part = spreadOver === undefined ? undefined : placeOf(spreadOver, node);
        const atMs = kind.freeMs[row * kind.gpus + last - 1]!;
        if (atMs < Infinity)
          spots.push({ kind, row, width, atMs, part: part ?? `${node.id} ${last}` });
      }
    }
  }
  let best: readonly Spot[] = [];
  for (const spots of places.values()) {
    const parts = new Set<string>();
    const chosen = spots
      .sort((a, b) => a.atMs - b.atMs)
      .filter(({ part }) => !parts.has(part) && parts.add(part))
      .slice(0, replicas);
    if (chosen.length < replicas) continue;
    if (chosen.at(-1)!.atMs < (best.at(-1)?.atMs ?? Infinity)) best = chosen;
  }
  return best.map(setAside);
}

function firstOf(kinds: readonly Kind[], widths: Widths): Spot | undefined {
  let first: Kind | undefined;
  let atMs = Infinity;
  for (const kind of kinds) {
    const width = widths[kind.at]!;
    const onMs = width === 0 ? Infinity : firstOn(kind, width);
    if (onMs < atMs) [first, atMs] = [kind, onMs];
  }
  if (first === undefined) return undefined;
  const width = widths[first.at]!;
  return { kind: first, row: treeOn(first, width)[1]!, width, atMs };
}

/** When so many GPUs of one node of a kind are free first. */
function firstOn(kind: Kind, width: number): number {
  return kind.freeMs[treeOn(kind, width)[1]! * kind.gpus + width - 1]!;
}

const treeOn = (kind: Kind, width: number): Int32Array =>
  (kind.trees[width - 1] ??= treeOf(kind, width));

/** The GPUs of a spot are nobody else's. */
function setAside(spot: Spot): Taken {
  const { kind, row, width } = spot;
  const { gpus, freeMs } = kind;
  const from = row * gpus;
  const atMs = freeMs[from + width - 1]!;
  // Of those that are free by then the last ones to be: who comes sooner may need the others.
  let end = from + width;
  while (end < from + gpus && freeMs[end]! <= atMs) end++;
  const times = [...freeMs.subarray(end - width, end)];
  freeMs.fill(Infinity, end - width, end);
  resort(kind, row);
  return { ...spot, atMs, freeMs: times };
}

/** What was set aside is free from these times on. */
function put({ kind, row, width }: Taken, times: readonly number[]): void {
  kind.freeMs.set(times, (row + 1) * kind.gpus - width);
  resort(kind, row);
}

function resort(kind: Kind, row: number): void {
  const { gpus, freeMs, trees } = kind;
  freeMs.subarray(row * gpus, (row + 1) * gpus).sort();
  for (const [at, tree] of trees.entries()) {
    if (tree === undefined) continue;
    for (let place = (tree.length / 2 + row) >> 1; place >= 1; place >>= 1) {
      tree[place] = winnerOf(tree, { kind, width: at + 1, place });
    }
  }
}

/** A tournament of a kind's nodes: the winner at 1, the players in the latter half, -1 where there is none. */
function treeOf(kind: Kind, width: number): Int32Array {
  const size = 2 ** Math.ceil(Math.log2(Math.max(2, kind.nodes.length)));
  const tree = new Int32Array(2 * size).fill(-1);
  for (const row of kind.nodes.keys()) tree[size + row] = row;
  for (let place = size - 1; place >= 1; place--) {
    tree[place] = winnerOf(tree, { kind, width, place });
  }
  return tree;
}

function winnerOf(
  tree: Int32Array,
  { kind, width, place }: { kind: Kind; width: number; place: number },
): number {
  const [a, b] = [tree[2 * place]!, tree[2 * place + 1]!];
  if (b < 0) return a;
  const { gpus, freeMs } = kind;
  return freeMs[b * gpus + width - 1]! < freeMs[a * gpus + width - 1]! ? b : a;
}

const keyOf = ({ runtimes, gpus, cpuMillis, memoryMib, diskMib }: PlanNode): string =>
  JSON.stringify([
    ...[runtimes, cpuMillis, memoryMib, diskMib],
    gpus.map(({ model, memoryMib: mib, simulated, mode }) => [model, mib, simulated, mode]),
  ]);

/** GPUs that a member counts as on such a node; undefined: it finds no room there even if nothing else runs. */
function widthOn(demand: Demand, node: PlanNode): number | undefined {
  if (!node.runtimes.includes(demand.runtime)) return undefined;
  const willDo = node.gpus.filter((gpu) => isAcceptable(demand, gpu));
  const byModel = Map.groupBy(willDo, ({ model }) => model);
  const most = Math.max(0, ...[...byModel.values()].map(({ length }) => length));
  const part = Math.max(
    demand.cpuMillis / node.cpuMillis,
    demand.memoryMib / node.memoryMib,
    demand.diskMib === 0 ? 0 : demand.diskMib / node.diskMib,
  );
  if (most < demand.gpuCount || part > 1) return undefined;
  return Math.max(demand.gpuCount, Math.round(part * node.gpus.length));
}

function isAcceptable(demand: Demand, gpu: PlanGpu): boolean {
  const { gpuModels, gpuMinMemoryMib, simulatedOk, part } = demand;
  const isolation = gpu.mode?.isolation ?? "exclusive";
  const given =
    part === undefined
      ? isolation !== "mig"
      : part.kind === "mig"
        ? isolation === "mig"
        : isolation !== "mig" && isolation !== "exclusive";
  return (
    given &&
    (gpuModels.length === 0 || gpuModels.includes(gpu.model)) &&
    gpu.memoryMib >= gpuMinMemoryMib &&
    (simulatedOk || !gpu.simulated)
  );
}

import type { GpuId } from "@fastgpu/domain/ids";
import type { Shape } from "../placement/shapes.ts";
import type { PlanGpu, PlanTask } from "../plan.ts";
import type { Entry, Held } from "./fleet.ts";
import type { GpuRoom } from "../placement/gpu-room.ts";
import type { Ground } from "./ground.ts";

/** A holder of resources that may be given up, on one node. */
export interface Holding<T> {
  readonly holder: T;
  readonly entry: Entry;
  readonly held: Pick<Held, "shape" | "gpus" | "starts">;
}

/** How to choose among holders. */
export interface CoverOptions<T> {
  /** What a task needs, and where its members may lie. */
  readonly task: PlanTask;
  /** Models that will do; empty: any. */
  readonly models: readonly string[];
  /** Who holds something on a node. */
  readonly holdings: (index: number) => readonly Holding<T>[];
  /** What giving up a holder costs. */
  readonly cost: (holder: T) => number;
  /** Which of two that cost the same goes first; default: as given. */
  readonly before?: (a: T, b: T) => number;
  /** Total cost of several, of which each counts once. */
  readonly total: "sum" | "greatest";
  /** GPUs that will do; default: all. */
  readonly only?: ReadonlySet<GpuId> | undefined;
  /** Nodes to leave alone. */
  readonly avoid?: (index: number) => boolean;
  /** What is known of nodes beforehand; default: nothing. Decides how much is looked at, and never what is found. */
  readonly bounds?: CoverBounds;
}

/** Bounds on what all holders of a node could give, by its number. */
export interface CoverBounds {
  /** GPUs that they hold there, at least. */
  readonly gpus: ArrayLike<number>;
  /** What each of these GPUs costs, at the least, of the holder that costs least for one. */
  readonly rate: ArrayLike<number>;
}

/** Who is given up, and how many members go to each node then. */
export interface Cover<T> {
  readonly holders: ReadonlySet<T>;
  readonly cost: number;
  readonly members: ReadonlyMap<number, number>;
}

/** One node in the course of a search. */
interface Spot<T> {
  readonly entry: Entry;
  readonly holdings: readonly Holding<T>[];
  /** Whether a GPU will do, by position. */
  readonly fits: readonly boolean[];
  /** The GPUs in detail, without the members that go there, and what one asks of them, on a node that gives out parts. */
  readonly parts: { readonly room: GpuRoom; readonly shape: Shape } | undefined;
  /** GPUs that one member more could have: free ones that will do, or with room for its part. */
  gpus: number;
  cpuMillis: number;
  memoryMib: number;
  diskMib: number;
  members: number;
  /** Who would have to go for one member more; undefined: not worked out since the last change, null: nobody helps. */
  next: { readonly holders: readonly T[]; readonly cost: number } | null | undefined;
}

/**
 * Finds holders whose places let a task in, at least cost: node by node, whoever is cheapest by what it frees, without
 * those that turn out to be needless; then the cheapest nodes, one member after the other, within each place that the
 * task's topology allows. A holder counts once, whatever it holds elsewhere. Greedy: the cheapest cover of several
 * members is a knapsack problem; on one node, holders are dropped from the dearest down. Changes nothing.
 */
export function findCover<T extends object>(
  ground: Ground,
  options: CoverOptions<T>,
): Cover<T> | undefined {
  const { task } = options;
  const { within, spreadOver } = task.topology;
  if (task.replicas === 1 && within === undefined && spreadOver === undefined) {
    return coverOne(ground, options);
  }
  const spots = spotsOf(ground, options);
  const groups =
    within === undefined
      ? [spots]
      : [...Map.groupBy(spots, ({ entry }) => placeOf(entry, within))]
          .filter(([place]) => place !== undefined)
          .toSorted(([a], [b]) => (a! < b! ? -1 : 1))
          .map(([, members]) => members);
  let best: Cover<T> | undefined;
  for (const group of groups) {
    const found = coverWithin(group, options, best?.cost ?? Number.POSITIVE_INFINITY);
    if (found !== undefined && (best === undefined || found.cost < best.cost)) best = found;
  }
  return best;
}

/** The place of a node: by its own id for "node", else by its topology; undefined: none known. */
function placeOf({ node }: Entry, kind: string): string | undefined {
  return kind === "node" ? node.id : node.topology[kind];
}

/** A node on which a member could be, as far as its GPUs tell. */
type Sight<T> = Pick<Spot<T>, "entry" | "fits" | "gpus" | "parts">;

/** The nodes that may take a member once enough is given up there, by id. */
function sightsOf<T>(ground: Ground, options: CoverOptions<T>): Sight<T>[] {
  const { task, models, avoid, bounds, only } = options;
  const { demand, excludedGpus } = task;
  const shape = ground.fleet.shapeOf(task, models);
  if (shape === undefined) return [];
  const wanted = new Set(models);
  const excluded = new Set(excludedGpus);
  const mayHave = (id: GpuId): boolean => !excluded.has(id) && only?.has(id) !== false;
  const willDo = (gpu: PlanGpu): boolean =>
    (wanted.size === 0 || wanted.has(gpu.model)) &&
    gpu.memoryMib >= demand.gpuMinMemoryMib &&
    (demand.simulatedOk || !gpu.simulated) &&
    mayHave(gpu.id);
  // By class of node: whether its runtime and its GPUs will do, where they are all alike.
  const verdicts: (boolean | undefined)[] = [];
  const suits = ({ node, alike }: Entry): boolean =>
    node.runtimes.includes(demand.runtime) &&
    node.gpus.length >= demand.gpuCount &&
    (!alike || demand.gpuCount === 0 || willDo(node.gpus[0]!));
  const plain = excludedGpus.length === 0 && only === undefined;
  const sights: Sight<T>[] = [];
  for (const entry of ground.fleet.inOrder) {
    const { node, index, held, alike, shared } = entry;
    if (!node.acceptsWork || held === undefined) continue;
    const suited = plain
      ? (verdicts[entry.class] ??= suits(entry))
      : suits({ ...entry, alike: false });
    if (!suited) continue;
    const count = node.gpus.length;
    if (demand.part !== undefined && !shared) continue;
    const free = ground.freeCount(index);
    const most = free + (bounds === undefined ? count : bounds.gpus[index]!);
    if (!shared && most < demand.gpuCount) continue;
    if (avoid?.(index) === true) continue;
    if (shared) sights.push({ entry, ...partsOf(ground, entry, { task, shape, mayHave }) });
    else if (alike && plain && count > 0) {
      // Of a task without GPUs none has to do.
      const good = demand.gpuCount > 0 || willDo(node.gpus[0]!);
      const gpus = good ? free : 0;
      sights.push({ entry, fits: sameForAll(count, good), gpus, parts: undefined });
    } else {
      const fits = node.gpus.map(willDo);
      const gpus = ground.freeGpus(index).filter((at) => fits[at]).length;
      sights.push({ entry, fits, gpus, parts: undefined });
    }
  }
  return sights;
}

function toSpot<T>(ground: Ground, sight: Sight<T>, options: CoverOptions<T>): Spot<T> {
  const { entry, fits, parts, gpus } = sight;
  const spot: Spot<T> = {
    ...{ entry, holdings: options.holdings(entry.index), fits, parts, gpus },
    ...{ cpuMillis: 0, memoryMib: 0, diskMib: 0, members: 0, next: undefined },
  };
  ground.readHost(entry.index, spot);
  return spot;
}

/** The nodes that could take a member once enough is given up there, by id. */
const spotsOf = <T>(ground: Ground, options: CoverOptions<T>): Spot<T>[] =>
  sightsOf(ground, options)
    .map((sight) => toSpot(ground, sight, options))
    .filter((spot) => mayEver(spot, options.task));

/**
 * The cover of a plain task: the cheapest node, of several the first. A node is worked out only where its bound does
 * not tell that it is dearer: dearer than the one whose bound is least, or not cheaper than one before it.
 */
function coverOne<T extends object>(
  ground: Ground,
  options: CoverOptions<T>,
): Cover<T> | undefined {
  const { task, bounds, total } = options;
  const none: ReadonlySet<T> = new Set();
  const sights = sightsOf(ground, options);
  const floors = sights.map(({ entry, gpus, parts }) => {
    const lacking = task.demand.gpuCount - gpus;
    if (lacking <= 0 || parts !== undefined || total !== "sum" || bounds === undefined) return 0;
    return lacking * bounds.rate[entry.index]! * roundedDown;
  });
  const workOut = (at: number, below: number) => {
    const spot = toSpot(ground, sights[at]!, options);
    return leastCost(spot, options, none) < below ? nextOf(spot, options, none) : null;
  };
  let first = 0;
  for (let at = 1; at < floors.length; at++) if (floors[at]! < floors[first]!) first = at;
  const next = sights.length === 0 ? null : workOut(first, Number.POSITIVE_INFINITY);
  let ceiling = next?.cost ?? Number.POSITIVE_INFINITY;
  let best: { readonly next: NonNullable<typeof next>; readonly index: number } | undefined;
  for (const [at, { entry }] of sights.entries()) {
    const floor = floors[at]!;
    if (floor > ceiling || (best !== undefined && floor >= best.next.cost)) continue;
    const below = best?.next.cost ?? Number.POSITIVE_INFINITY;
    const found = at === first ? next : workOut(at, below);
    if (found === null || (best !== undefined && found.cost >= best.next.cost)) continue;
    best = { next: found, index: entry.index };
    ceiling = Math.min(ceiling, found.cost);
    if (found.cost === 0) break;
  }
  if (best === undefined) return undefined;
  const { holders, cost } = best.next;
  return { holders: new Set(holders), cost, members: new Map([[best.index, 1]]) };
}

/** A little less than one, for what rounding may add. */
const roundedDown = 1 - 1e-9;

const lists = [true, false].map((value) =>
  Array.from({ length: 65 }, (_, count) => Array.from({ length: count }, () => value)),
);

/** A list of so many times the same. */
const sameForAll = (count: number, value: boolean): readonly boolean[] =>
  lists[value ? 0 : 1]![count]!;

function partsOf(
  ground: Ground,
  { node, index }: Entry,
  of: { task: PlanTask; shape: Shape; mayHave: (gpu: GpuId) => boolean },
) {
  const { task, shape, mayHave } = of;
  const room = ground.gpuRoom(index);
  const fits = room
    .usable(shape)
    .map((usable, at) => usable && mayHave(node.gpus[at]!.id) && isFor(node.gpus[at]!, task));
  return { fits, gpus: room.count(shape, fits), parts: { room, shape } };
}

/** Whether a GPU is not kept for another task. */
const isFor = ({ reservedFor }: PlanGpu, task: PlanTask): boolean =>
  reservedFor === undefined || reservedFor === task.id;

/** A spot to try on. */
const copyOf = <T>(spot: Spot<T>): Spot<T> =>
  spot.parts === undefined
    ? { ...spot }
    : { ...spot, parts: { ...spot.parts, room: spot.parts.room.copy() } };

/** Whether one member would fit with all holders gone. */
function mayEver<T>(spot: Spot<T>, task: PlanTask): boolean {
  if (spot.parts !== undefined) {
    const all = copyOf(spot);
    for (const { held } of spot.holdings) free(all, held);
    return hasRoom(all, task);
  }
  const { demand } = task;
  let { gpus, cpuMillis, memoryMib, diskMib } = spot;
  for (const { held } of spot.holdings) {
    gpus += fitting(spot, held);
    cpuMillis += held.shape.cpuMillis;
    memoryMib += held.shape.memoryMib;
    diskMib += held.shape.diskMib;
  }
  return (
    gpus >= demand.gpuCount &&
    cpuMillis >= demand.cpuMillis &&
    memoryMib >= demand.memoryMib &&
    diskMib >= demand.diskMib
  );
}

/** How many of the GPUs that are held will do. */
function fitting<T>({ fits }: Spot<T>, held: Holding<T>["held"]): number {
  let gpus = 0;
  for (const at of held.gpus) if (fits[at]) gpus++;
  return gpus;
}

function hasRoom<T>(spot: Spot<T>, { demand }: PlanTask): boolean {
  const { gpus, cpuMillis, memoryMib, diskMib } = spot;
  return (
    gpus >= demand.gpuCount &&
    cpuMillis >= demand.cpuMillis &&
    memoryMib >= demand.memoryMib &&
    diskMib >= demand.diskMib
  );
}

/** Adds what a holder has on the node to what is free there, or takes it away again (`sign` -1). */
function free<T>(spot: Spot<T>, held: Holding<T>["held"], sign: 1 | -1 = 1): void {
  if (spot.parts === undefined) spot.gpus += sign * fitting(spot, held);
  else {
    const { room, shape } = spot.parts;
    if (sign > 0) room.give(held);
    else room.take(held);
    spot.gpus = room.count(shape, spot.fits, spot.members);
  }
  spot.cpuMillis += sign * held.shape.cpuMillis;
  spot.memoryMib += sign * held.shape.memoryMib;
  spot.diskMib += sign * held.shape.diskMib;
}

function coverWithin<T>(
  spots: readonly Spot<T>[],
  options: CoverOptions<T>,
  atMost: number,
): Cover<T> | undefined {
  const { task, total } = options;
  const { spreadOver } = task.topology;
  const spotsOfHolder = task.replicas > 1 ? byHolder(spots) : undefined;
  const gone = new Set<T>();
  const used = new Set<string>();
  let cost = 0;
  for (let member = 0; member < task.replicas; member++) {
    let best: Spot<T> | undefined;
    for (const spot of spots) {
      if (spreadOver !== undefined && !mayTake(spot, spreadOver, used)) continue;
      if (spot.next === undefined) {
        // The first of the cheapest is taken: what can not be cheaper need not be worked out.
        if (best?.next != null && leastCost(spot, options, gone) >= best.next.cost) continue;
        spot.next = nextOf(spot, options, gone);
      }
      if (spot.next !== null && (best === undefined || spot.next.cost < best.next!.cost))
        best = spot;
      if (best?.next?.cost === 0) break;
    }
    if (best?.next == null) return undefined;
    const { holders, cost: more } = best.next;
    for (const holder of holders) {
      gone.add(holder);
      // It holds no more on other nodes either.
      for (const spot of spotsOfHolder?.get(holder) ?? []) {
        for (const each of spot.holdings) if (each.holder === holder) free(spot, each.held);
        spot.next = undefined;
      }
    }
    cost = total === "sum" ? cost + more : Math.max(cost, more);
    if (cost >= atMost) return undefined;
    const { demand } = task;
    best.members++;
    if (best.parts === undefined) best.gpus -= demand.gpuCount;
    else best.gpus = best.parts.room.count(best.parts.shape, best.fits, best.members);
    best.cpuMillis -= demand.cpuMillis;
    best.memoryMib -= demand.memoryMib;
    best.diskMib -= demand.diskMib;
    best.next = undefined;
    if (spreadOver !== undefined) used.add(placeOf(best.entry, spreadOver)!);
  }
  const members = new Map<number, number>();
  for (const spot of spots) if (spot.members > 0) members.set(spot.entry.index, spot.members);
  return { holders: gone, cost, members };
}

function byHolder<T>(spots: readonly Spot<T>[]): ReadonlyMap<T, ReadonlySet<Spot<T>>> {
  const found = new Map<T, Set<Spot<T>>>();
  for (const spot of spots) {
    for (const { holder } of spot.holdings) {
      const known = found.get(holder);
      if (known === undefined) found.set(holder, new Set([spot]));
      else known.add(spot);
    }
  }
  return found;
}

/** What one member more costs on a node at the least: the GPUs that lack, at the best rate of any holder there. */
function leastCost<T>(spot: Spot<T>, options: CoverOptions<T>, gone: ReadonlySet<T>): number {
  const { task, cost, total } = options;
  const lacking = task.demand.gpuCount - spot.gpus;
  if (lacking <= 0) return 0;
  let least = Number.POSITIVE_INFINITY;
  for (const { holder } of spot.holdings) {
    if (gone.has(holder)) continue;
    let gpus = 0;
    // A gang counts once for all its members here.
    for (const other of spot.holdings) {
      if (other.holder === holder) gpus += fitting(spot, other.held);
    }
    // Of parts it may take several for one GPU, and one may do for several.
    const rated = total === "sum" && spot.parts === undefined;
    if (gpus > 0) least = Math.min(least, rated ? cost(holder) / gpus : cost(holder));
  }
  return total === "sum" && spot.parts === undefined ? least * lacking * roundedDown : least;
}

function mayTake<T>({ entry }: Spot<T>, spreadOver: string, used: ReadonlySet<string>): boolean {
  const place = placeOf(entry, spreadOver);
  return place !== undefined && !used.has(place);
}

/** Who would have to go for one member more on a node. */
function nextOf<T>(
  spot: Spot<T>,
  options: CoverOptions<T>,
  gone: ReadonlySet<T>,
): { holders: readonly T[]; cost: number } | null {
  const { task, cost, total, before = () => 0 } = options;
  if (hasRoom(spot, task)) return { holders: [], cost: 0 };
  const trial = copyOf(spot);
  const chosen: Holding<T>[] = [];
  const left = spot.holdings.filter(({ holder }) => !gone.has(holder));
  const perGpu = ({ holder, held }: Holding<T>): number => {
    const gpus = (held.gpus.length * held.shape.gpuMilli) / 1000;
    return total === "sum" && gpus > 0 ? cost(holder) / gpus : cost(holder);
  };
  const order = left
    .map((each) => ({ each, rate: perGpu(each) }))
    .toSorted((a, b) => a.rate - b.rate || before(a.each.holder, b.each.holder))
    .map(({ each }) => each);
  for (const each of order) {
    if (hasRoom(trial, task)) break;
    // Of no use here: none of its GPUs will do, and they are what lacks.
    const useful = trial.gpus >= task.demand.gpuCount || each.held.gpus.some((at) => spot.fits[at]);
    if (!useful) continue;
    chosen.push(each);
    free(trial, each.held);
  }
  if (!hasRoom(trial, task)) return null;
  if (total === "sum") {
    for (const each of chosen.toSorted((a, b) => cost(b.holder) - cost(a.holder))) {
      free(trial, each.held, -1);
      if (hasRoom(trial, task)) chosen.splice(chosen.indexOf(each), 1);
      else free(trial, each.held);
    }
  }
  const holders = [...new Set(chosen.map(({ holder }) => holder))];
  const costs = holders.map(cost);
  return {
    holders,
    cost: total === "sum" ? costs.reduce((sum, each) => sum + each, 0) : Math.max(...costs),
  };
}

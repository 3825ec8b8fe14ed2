import type { Placement } from "./cluster.ts";
import type { Draft } from "./draft.ts";
import type { PlacementEngine } from "./engine.ts";
import { gpuRoomOf, type GpuRoom } from "./gpu-room.ts";
import type { Shape } from "./shapes.ts";

/** How the members of a gang may lie to one another. */
export interface GangTopology {
  /** All members within one place of this kind: "node", or a key of `NodeSpec.topology`. */
  readonly within?: string;
  /** No two members in one place of this kind. */
  readonly spreadOver?: string;
}

/** The place of a node: by its own id for "node", else by its topology; undefined = none known. */
function placeOf(engine: PlacementEngine, node: number, kind: string): string | undefined {
  const { spec } = engine.cluster.nodes[node]!;
  return kind === "node" ? spec.id : spec.topology[kind];
}

/** Places of a kind with the nodes in them, by name. */
function placesOf(engine: PlacementEngine, kind: string): [string, ReadonlySet<number>][] {
  const places = new Map<string, Set<number>>();
  for (const [node, { slot }] of engine.cluster.nodes.entries()) {
    const place = slot < 0 ? undefined : placeOf(engine, node, kind);
    if (place === undefined) continue;
    const members = places.get(place) ?? new Set<number>();
    places.set(place, members.add(node));
  }
  return [...places].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Free thousandths of all GPUs within a place. */
function roomIn(engine: PlacementEngine, nodes: ReadonlySet<number>): number {
  const { states, nodes: all } = engine.cluster;
  let room = 0;
  for (const node of nodes) {
    const base = states.base[all[node]!.slot]!;
    for (let i = 0; i < states.gpus[all[node]!.slot]!; i++) {
      room += Math.max(0, states.freeMilli[base + i]!);
    }
  }
  return room;
}

/** Members of a gang, and where they may lie. */
interface Members {
  readonly members: readonly Shape[];
  readonly inside?: ReadonlySet<number>;
  readonly spreadOver?: string;
  readonly allowed?: (node: number) => boolean;
}

function placeMembers(
  draft: Draft,
  engine: PlacementEngine,
  gang: Members,
): Placement[] | undefined {
  const { members, inside, spreadOver } = gang;
  const used = new Set<string>();
  const start = draft.checkpoint();
  const placements: Placement[] = [];
  const allowed = (node: number): boolean => {
    if (inside?.has(node) === false || gang.allowed?.(node) === false) return false;
    if (spreadOver === undefined) return true;
    const place = placeOf(engine, node, spreadOver);
    return place !== undefined && !used.has(place);
  };
  const limited = inside !== undefined || spreadOver !== undefined || gang.allowed !== undefined;
  for (const shape of members) {
    const placement = draft.place(shape, limited ? { allowed } : {});
    if (placement === undefined) {
      draft.rollback(start);
      return packs(members) ? packMembers(draft, engine, gang) : undefined;
    }
    placements.push(placement);
    if (spreadOver !== undefined) used.add(placeOf(engine, placement.node, spreadOver)!);
  }
  return placements;
}

/** Whether it matters which GPUs of a node a member has parts of: it may leave too few different ones to the others. */
const packs = ([first, ...others]: readonly Shape[]): boolean =>
  first !== undefined &&
  first.gpus > 1 &&
  first.gpuMilli < 1000 &&
  others.length > 0 &&
  others.every((each) => each === first);

/**
 * Places members that are alike and each have parts of several GPUs wherever that is possible: as many as fit on each
 * node, those first that hold most, then the first by name. For when the policy's places leave no room for some.
 */
function packMembers(
  draft: Draft,
  engine: PlacementEngine,
  { members, inside, spreadOver, allowed }: Members,
): Placement[] | undefined {
  const shape = members[0]!;
  const { cluster, fitter } = engine;
  const rooms: { readonly node: number; readonly room: GpuRoom; readonly most: number }[] = [];
  for (const [node, { slot, spec }] of cluster.nodes.entries()) {
    if (slot < 0 || inside?.has(node) === false || allowed?.(node) === false) continue;
    if (!spec.schedulable || !fitter.fits(slot, shape)) continue;
    const room = gpuRoomOf(cluster, node);
    const most = mostOn(engine, { node, room, shape, members: members.length });
    rooms.push({ node, room, most });
  }
  const { nodes } = cluster;
  const id = (node: number): string => nodes[node]!.spec.id;
  rooms.sort((a, b) => b.most - a.most || (id(a.node) < id(b.node) ? -1 : 1));
  const start = draft.checkpoint();
  const placements: Placement[] = [];
  const used = new Set<string>();
  for (const { node, room, most } of rooms) {
    let count = Math.min(most, members.length - placements.length);
    if (spreadOver !== undefined) {
      const place = placeOf(engine, node, spreadOver);
      if (place === undefined || used.has(place)) continue;
      used.add(place);
      count = Math.min(count, 1);
    }
    for (const { gpus, starts } of room.pack(shape, room.usable(shape), count)) {
      const placement = starts === undefined ? { node, gpus } : { node, gpus, starts };
      draft.take(shape, placement);
      placements.push(placement);
    }
    if (placements.length === members.length) return placements;
  }
  draft.rollback(start);
  return undefined;
}

/** How many members a node has room for, up to those there are. */
function mostOn(
  { cluster: { states, nodes } }: PlacementEngine,
  of: { node: number; room: GpuRoom; shape: Shape; members: number },
): number {
  const { node, room, shape, members } = of;
  const { slot } = nodes[node]!;
  const usable = room.usable(shape);
  let most = members;
  for (const resource of ["cpuMillis", "memoryMib", "diskMib"] as const) {
    if (shape[resource] === 0) continue;
    most = Math.min(most, Math.floor(states[resource][slot]! / shape[resource]));
  }
  let count = 0;
  while (count < most && room.count(shape, usable, count) >= shape.gpus) count++;
  return count;
}

/**
 * Places a gang whole, or not at all: the draft holds either every member or what it held
 * before. Members go in the order given, each by the engine's policy. Of several places that
 * could hold the gang, the one with least room is taken, then the first by name.
 *
 * This is greedy: a gang of unlike members may be refused where a search would place it. One of like members is not.
 */
export function placeGang(
  engine: PlacementEngine,
  draft: Draft,
  gang: {
    readonly members: readonly Shape[];
    readonly topology?: GangTopology;
    /** Nodes that will do; default: all. */
    readonly allowed?: (node: number) => boolean;
  },
): Placement[] | undefined {
  const { members, topology = {}, allowed } = gang;
  const { within, spreadOver } = topology;
  const spread = {
    ...(spreadOver === undefined ? {} : { spreadOver }),
    ...(allowed === undefined ? {} : { allowed }),
  };
  if (within === undefined) return placeMembers(draft, engine, { members, ...spread });
  const wanted = members.reduce((sum, { gpus, gpuMilli }) => sum + gpus * gpuMilli, 0);
  const places = placesOf(engine, within)
    .map(([, inside]) => ({ inside, room: roomIn(engine, inside) }))
    .filter(({ room }) => room >= wanted)
    .sort((a, b) => a.room - b.room);
  for (const { inside } of places) {
    const placements = placeMembers(draft, engine, { members, inside, ...spread });
    if (placements !== undefined) return placements;
  }
  return undefined;
}

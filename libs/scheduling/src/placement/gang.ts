import type { Placement } from "./cluster.ts";
import type { Draft } from "./draft.ts";
import type { PlacementEngine } from "./engine.ts";
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

function placeMembers(
  draft: Draft,
  engine: PlacementEngine,
  gang: {
    readonly members: readonly Shape[];
    readonly inside?: ReadonlySet<number>;
    readonly spreadOver?: string;
    readonly allowed?: (node: number) => boolean;
  },
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
      return undefined;
    }
    placements.push(placement);
    if (spreadOver !== undefined) used.add(placeOf(engine, placement.node, spreadOver)!);
  }
  return placements;
}

/**
 * Places a gang whole, or not at all: the draft holds either every member or what it held
 * before. Members go in the order given, each by the engine's policy. Of several places that
 * could hold the gang, the one with least room is taken, then the first by name.
 *
 * This is greedy: a gang of unlike members may be refused where a search would place it.
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

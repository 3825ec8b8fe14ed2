import { emptyRequest, type Shape } from "../placement/shapes.ts";
import type { PlanMove } from "../plan.ts";
import type { Entry, Fleet } from "./fleet.ts";
import type { Ground } from "./ground.ts";
import type { Attempt } from "./crew.ts";

/** What limits the proposals. */
export interface ConsolidateOptions {
  readonly attempts: readonly Attempt[];
  readonly maxMoves: number;
  /** Who has run for less than this since its start is left alone, in milliseconds. */
  readonly minRunMs: number;
  readonly now: number;
}

/** A node that would be whole again if these attempts ran elsewhere. */
interface Candidate {
  readonly entry: Entry;
  readonly attempts: readonly Attempt[];
  /** GPU-milliseconds of work that stopping them wastes. */
  readonly lossGpuMs: number;
}

/**
 * Moves that free whole nodes: every attempt of a partly used node goes to other partly used nodes. Cheapest nodes
 * first, by the work that is lost for each GPU that comes together; greedy, and each step is tried on the ground, so
 * that all moves of one answer work out together. Only attempts that go on from a checkpoint are moved, to GPUs of the
 * same model on nodes that run at least the same kinds of task; gangs and parts of GPUs stay.
 */
export function proposeMoves(ground: Ground, options: ConsolidateOptions): PlanMove[] {
  const moves: PlanMove[] = [];
  const emptied = new Set<number>();
  const filled = new Set<number>();
  for (const { entry, attempts } of candidates(ground, options)) {
    if (filled.has(entry.index) || moves.length + attempts.length > options.maxMoves) continue;
    const mark = ground.mark();
    for (const attempt of attempts) ground.end(attempt);
    const found = attempts.map((attempt) => {
      const shape = shapeOf(attempt, ground.fleet);
      const taken = ground.placeOn(shape, (index) => {
        const other = ground.fleet.at(index);
        const inUse = (other.held?.length ?? 0) > 0;
        return index !== entry.index && !emptied.has(index) && inUse && takesMoves(other, entry);
      });
      return taken === undefined ? [] : [{ attempt, taken }];
    });
    if (found.some((move) => move.length === 0)) {
      ground.rollback(mark);
      continue;
    }
    emptied.add(entry.index);
    for (const { attempt, taken } of found.flat()) {
      filled.add(taken.place.node);
      const [to] = ground.toMembers([taken]);
      const { id, lease } = attempt;
      if (to !== undefined) moves.push({ attempt: id, task: lease.task, from: entry.node.id, to });
    }
  }
  return moves;
}

/** Partly used nodes on which everything can be moved, cheapest first. */
function candidates(ground: Ground, options: ConsolidateOptions): Candidate[] {
  const { attempts, now } = options;
  const byNode = new Map<number, Attempt[]>();
  for (const attempt of attempts) {
    for (const { entry } of attempt.members) {
      const here = byNode.get(entry.index);
      if (here === undefined) byNode.set(entry.index, [attempt]);
      else here.push(attempt);
    }
  }
  const found: Candidate[] = [];
  for (const [index, here] of byNode) {
    const entry = ground.fleet.at(index);
    const free = ground.freeGpus(index).length;
    const held = here.reduce((sum, { gpuMilli }) => sum + gpuMilli / 1000, 0);
    // What else is missing was given out in this very plan, or is not in order: such a node is left alone.
    if (free === 0 || free + held !== entry.node.gpus.length) continue;
    if (!isQuiet(entry) || !here.every((attempt) => mayMove(attempt, options))) continue;
    const order = here.toSorted((a, b) => b.gpuMilli - a.gpuMilli || (a.id < b.id ? -1 : 1));
    const lossGpuMs = here.reduce((sum, attempt) => sum + lossOf(attempt, now), 0);
    found.push({ entry, attempts: order, lossGpuMs });
  }
  const costOf = ({ entry, lossGpuMs }: Candidate): number => lossGpuMs / entry.node.gpus.length;
  return found.sort(
    (a, b) =>
      costOf(a) - costOf(b) ||
      a.attempts.length - b.attempts.length ||
      (a.entry.node.name < b.entry.node.name ? -1 : 1),
  );
}

const isQuiet = ({ node, held, kept, clearing }: Entry): boolean =>
  node.acceptsWork && held !== undefined && kept.size === 0 && clearing.length === 0;

function mayMove({ lease, members, known }: Attempt, options: ConsolidateOptions): boolean {
  const { preemptible, stopping, runningSinceMs, part } = lease;
  if (!preemptible || stopping || !known || members.length !== 1) return false;
  if (part !== undefined) return false;
  return runningSinceMs !== undefined && options.now - runningSinceMs >= options.minRunMs;
}

const lossOf = ({ lease, gpuMilli }: Attempt, now: number): number =>
  (gpuMilli / 1000) * Math.max(0, now - Math.max(lease.savedMs ?? 0, lease.runningSinceMs ?? now));

/** Whether a node takes work, nothing on it is on its way to somebody, and it runs whatever the other one runs. */
export const takesMoves = (to: Entry, from: Entry): boolean =>
  isQuiet(to) && from.node.runtimes.every((runtime) => to.node.runtimes.includes(runtime));

/** What the attempt would ask of another node: as many GPUs of the same model. */
export function shapeOf({ members }: Attempt, fleet: Fleet): Shape {
  const { entry, held } = members[0]!;
  const { cpuMillis, memoryMib, diskMib } = held.shape;
  const gpus = held.gpus.map((at) => entry.node.gpus[at]!);
  const host = { ...emptyRequest, cpuMillis, memoryMib, diskMib };
  if (gpus.length === 0) return fleet.free.shape(host);
  return fleet.free.shape({
    ...host,
    gpus: gpus.length,
    gpuMilli: 1000,
    gpuMemoryMib: Math.max(...gpus.map((gpu) => gpu.memoryMib)),
    models: [...new Set(gpus.map((gpu) => gpu.model))],
    allowSimulated: gpus.some((gpu) => gpu.simulated),
  });
}

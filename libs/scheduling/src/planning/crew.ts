import type { AttemptId } from "@fastgpu/domain/ids";
import { milliOfHeld, milliOfPart } from "../gpu-part.ts";
import type { PlanLease, PlanNode } from "../plan.ts";
import type { Entry, Fleet, Held } from "./fleet.ts";

/** A running attempt with all its members. */
export interface Attempt {
  readonly id: AttemptId;
  /** That of its lowest rank. */
  readonly lease: PlanLease;
  /** What the engine has of it, by rank. */
  readonly members: readonly { readonly entry: Entry; readonly held: Held }[];
  /** Thousandths of GPUs by model; those that a worker no longer lists count for "". */
  readonly counts: ReadonlyMap<string, number>;
  readonly gpuMilli: number;
  readonly cpuMillis: number;
  /** False where the engine does not have all that it holds: it can not be given back on a draft. */
  readonly known: boolean;
}

/** A member of an attempt as a node tells of it. */
interface Member {
  readonly node: PlanNode;
  readonly lease: PlanLease;
  readonly entry: Entry | undefined;
  readonly held: Held | undefined;
}

/**
 * What runs on a fleet, by attempt: kept from plan to plan, so that only attempts on changed nodes are read again. The
 * same fleet has the same crew, whatever came before.
 */
export class Crew {
  private readonly fleet: Fleet;
  /** The nodes as they were read, by number. */
  private readonly read: (Entry | undefined)[] = [];
  private readonly nodesOf = new Map<AttemptId, Set<number>>();
  private readonly byId = new Map<AttemptId, Attempt>();
  private sorted: readonly Attempt[] = [];

  constructor(fleet: Fleet) {
    this.fleet = fleet;
  }

  /** Everything that runs on the fleet as it is now, by id. */
  sync(): readonly Attempt[] {
    const touched = new Set<AttemptId>();
    for (let index = 0; index < this.fleet.numbers; index++) {
      const entry = this.fleet.find(index);
      const before = this.read[index];
      if (entry === before) continue;
      this.read[index] = entry;
      for (const { attempt } of before?.node.running ?? []) {
        touched.add(attempt);
        this.nodesOf.get(attempt)?.delete(index);
      }
      for (const { attempt } of entry?.node.running ?? []) {
        touched.add(attempt);
        const known = this.nodesOf.get(attempt);
        if (known === undefined) this.nodesOf.set(attempt, new Set([index]));
        else known.add(index);
      }
    }
    if (touched.size > 0) this.renew(touched);
    return this.sorted;
  }

  private renew(touched: ReadonlySet<AttemptId>): void {
    const fresh: Attempt[] = [];
    for (const id of touched) {
      const nodes = this.nodesOf.get(id);
      if (nodes === undefined || nodes.size === 0) {
        this.nodesOf.delete(id);
        this.byId.delete(id);
        continue;
      }
      if (!this.byId.has(id)) fresh.push(this.put(id, nodes));
      else this.put(id, nodes);
    }
    // Nearly in order but for the new ones, which a sort by merging takes in at little cost.
    const kept = this.sorted.flatMap(({ id }) => this.byId.get(id) ?? []);
    this.sorted = [...kept, ...fresh].sort(byName);
  }

  private put(id: AttemptId, nodes: ReadonlySet<number>): Attempt {
    const members: Member[] = [];
    for (const index of nodes) {
      const entry = this.fleet.at(index);
      for (const [at, lease] of entry.node.running.entries()) {
        if (lease.attempt !== id) continue;
        members.push({ node: entry.node, lease, entry, held: entry.held?.[at] });
      }
    }
    const attempt = attemptOf(id, members);
    this.byId.set(id, attempt);
    return attempt;
  }
}

/** What runs on these nodes, as far as queues count it: without a fleet no draft can take anything of it away. */
export function attemptsOf(nodes: readonly PlanNode[]): Attempt[] {
  const members = nodes.flatMap((node) =>
    node.running.map((lease): Member => ({ node, lease, entry: undefined, held: undefined })),
  );
  const byId = Map.groupBy(members, ({ lease }) => lease.attempt);
  return [...byId].map(([id, own]) => attemptOf(id, own)).sort(byName);
}

const byName = (a: Attempt, b: Attempt): number => (a.id < b.id ? -1 : 1);

function attemptOf(id: AttemptId, unordered: readonly Member[]): Attempt {
  const list =
    unordered.length === 1
      ? unordered
      : unordered.toSorted((a, b) => a.lease.member - b.lease.member);
  const counts = new Map<string, number>();
  const members: { entry: Entry; held: Held }[] = [];
  let [gpuMilli, cpuMillis, known] = [0, 0, true];
  for (const { node, lease, entry, held } of list) {
    gpuMilli += milliOfHeld(lease);
    cpuMillis += lease.cpuMillis;
    if (entry === undefined || held === undefined) known = false;
    else members.push({ entry, held });
    const milli = milliOfPart(lease.part);
    for (const gpuId of lease.gpus) {
      const model = node.gpus.find((gpu) => gpu.id === gpuId)?.model ?? "";
      counts.set(model, (counts.get(model) ?? 0) + milli);
    }
  }
  const { lease } = list[0]!;
  return { id, lease, members, counts, gpuMilli, cpuMillis, known };
}

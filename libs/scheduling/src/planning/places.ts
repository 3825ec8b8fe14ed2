import type { AttemptId, GpuId, TaskId } from "@fastgpu/domain/ids";
import type { PlanGpu, PlanLease, PlanNode, PlanReservation } from "../plan.ts";
import { byBundle, overlap, pickBundles, type Bundle, type Spot } from "./bundles.ts";
import { covers, owns } from "./estate.ts";
import type { Owner } from "./queues.ts";

/** Who would hold GPUs, and until when. */
interface Holder {
  readonly owner: Owner;
  readonly endMs: number;
  /** It can be stopped for whom GPUs are reserved. */
  readonly givesWay: boolean;
}

/** GPUs of a model that somebody asks for. */
interface Wish {
  readonly owner: Owner;
  readonly model: string;
  readonly milli: number;
}

/** What places are chosen by. */
interface Known {
  readonly nodes: readonly PlanNode[];
  readonly reservations: readonly PlanReservation[];
  readonly held: ReadonlyMap<AttemptId, Holder>;
  /** A waiting task that GPUs may be kept for already. */
  readonly waits: (task: TaskId) => Holder | undefined;
  readonly now: number;
}

/** Ways that are tried for all reservations together, at most. */
const maxTries = 64;

/** A GPU of a node that is free for a reservation by its beginning. */
interface Usable {
  readonly id: GpuId;
  readonly model: string;
  readonly own: boolean;
}

/** The nodes of a reservation that asks for several GPUs on one node each. */
interface Kept {
  readonly reservation: PlanReservation;
  readonly bundles: readonly Bundle<Usable>[];
  readonly ids: ReadonlySet<GpuId>;
  /** What its owner takes in the course of the plan. */
  takenMilli: number;
}

/**
 * Whether a holder stays off the places of a reservation: it may outlast the beginning, is not of the owner's, and does
 * not give way. Who counts for another reservation of that time does not give way for certain.
 */
export function staysOff(
  reservation: PlanReservation,
  { owner, endMs, givesWay }: Holder,
  of: { reservations: readonly PlanReservation[]; now: number },
): boolean {
  if (endMs <= Math.max(of.now, reservation.startMs) || owns(reservation, owner)) return false;
  if (!givesWay) return true;
  return of.reservations.some(
    (other) => other !== reservation && overlap(other, reservation) && owns(other, owner),
  );
}

/**
 * The places of reservations that ask for so many GPUs on one node each (`perNode`): certain GPUs of certain nodes, each
 * of which is idle by the beginning, held by its owner, or on loan to who gives way. Chosen anew in each plan. What was
 * free for a reservation stays so, since nothing else may take it that outlasts the beginning: so once there are enough
 * places there are, on the same or on other nodes.
 */
export class Places {
  private readonly kept: readonly Kept[];
  private readonly reservations: readonly PlanReservation[];
  private readonly at: { readonly reservations: readonly PlanReservation[]; readonly now: number };
  private readonly lists = new Map<string, readonly GpuId[]>();

  /** `reservations` are those that are not over, `held` says who runs. */
  constructor(of: Known) {
    const { reservations, now } = of;
    this.reservations = reservations;
    this.at = { reservations, now };
    this.kept = this.assign(of, reservations.filter(isBundled).toSorted(byBundle), {
      before: [],
      tries: { left: maxTries },
    });
  }

  /** Places for all of these, beside others; where one finds too few, those before it are tried on other models. */
  private assign(
    of: Known,
    [reservation, ...others]: readonly PlanReservation[],
    at: { before: readonly Kept[]; tries: { left: number } },
  ): readonly Kept[] {
    const { before, tries } = at;
    if (reservation === undefined) return before;
    let best: readonly Kept[] | undefined;
    for (const bundles of this.choose(reservation, of, before)) {
      const ids = new Set(idsOf({ bundles }));
      const kept = { reservation, bundles, ids, takenMilli: 0 };
      const all = this.assign(of, others, { before: [...before, kept], tries });
      if (best === undefined || lacking(all) < lacking(best)) best = all;
      if (lacking(best) === 0 || --tries.left <= 0) break;
    }
    return best ?? before;
  }

  /** The ways to place one, best first. */
  private choose(
    reservation: PlanReservation,
    of: Known,
    before: readonly Kept[],
  ): readonly (readonly Bundle<Usable>[])[] {
    const { gpus, perNode: size = 1 } = reservation;
    const others = before.filter((each) => overlap(each.reservation, reservation));
    const taken = new Set(others.flatMap(idsOf));
    const rivals = this.reservations.filter(
      (each) => each !== reservation && overlap(each, reservation),
    );
    const spots = of.nodes
      .filter(({ acceptsWork }) => acceptsWork)
      .map((node): Spot<Usable> => {
        const usable = this.usableOn(node, reservation, of);
        const free = usable.filter(({ id }) => !taken.has(id));
        return { name: node.id, size: node.gpus.length, gpus: free };
      });
    const wantedBy = (model: string): number =>
      rivals.reduce((sum, each) => sum + (covers(each, model) ? each.gpus : 0), 0);
    const ways = pickBundles(spots, { size, count: gpus / size, others: wantedBy });
    return ways.length === 0 ? [[]] : ways;
  }

  /** The GPUs of a node that are free for a reservation by its beginning, as whole ones. */
  private usableOn(node: PlanNode, reservation: PlanReservation, { held, waits }: Known): Usable[] {
    const leases = leasesByGpu(node);
    return node.gpus.flatMap((gpu): Usable[] => {
      const { id, model, mode, reservedFor } = gpu;
      if (!covers(reservation, model) || mode?.isolation === "mig") return [];
      const on = leases.get(id) ?? [];
      const holders = on.map(({ attempt }) => held.get(attempt)!);
      if (!isWholeOnce(gpu, on)) return [];
      const next = reservedFor === undefined ? undefined : waits(reservedFor);
      if (next !== undefined && staysOff(reservation, next, this.at)) return [];
      if (holders.some((holder) => staysOff(reservation, holder, this.at))) return [];
      // Before it begins it is on none, so that what its owner runs moves nothing.
      const own =
        reservation.startMs <= this.at.now && holders.some(({ owner }) => owns(reservation, owner));
      return [{ id, model, own }];
    });
  }

  /** GPUs that somebody must not get; the same list for who stays off the same. */
  offLimits(holder: Holder): readonly GpuId[] {
    const from = this.keptFrom(holder);
    if (from.length === 0) return none;
    const key = from.map(({ reservation }) => reservation.id).join(" ");
    let list = this.lists.get(key);
    if (list === undefined) {
      list = from.flatMap(idsOf);
      this.lists.set(key, list);
    }
    return list;
  }

  /** The first reservation whose places somebody stays off, where there is one. */
  firstOf(holder: Holder): PlanReservation | undefined {
    return this.keptFrom(holder).find(({ bundles }) => bundles.length > 0)?.reservation;
  }

  private keptFrom(holder: Holder): readonly Kept[] {
    return this.kept.filter(({ reservation }) => staysOff(reservation, holder, this.at));
  }

  /** What is counted, wherever it lies: reservations without places, and of others what found none. */
  counted(): PlanReservation[] {
    const places = new Map(this.kept.map((each) => [each.reservation, idsOf(each).length]));
    return this.reservations.flatMap((each) => {
      const left = each.gpus - (places.get(each) ?? 0);
      return left === 0 ? [] : [left === each.gpus ? each : { ...each, gpus: left }];
    });
  }

  /** The model of a GPU that is of the places of a reservation that lasts at a time; undefined: it is of none. */
  modelAt(id: GpuId, atMs: number): string | undefined {
    const found = this.kept.find(
      ({ reservation: { startMs, endMs }, ids }) =>
        startMs <= Math.max(atMs, this.at.now) && atMs < endMs && ids.has(id),
    );
    return found?.bundles[0]?.gpus[0]?.model;
  }

  private ownedBy(owner: Owner): readonly Kept[] {
    return this.kept.filter(({ reservation }) => owns(reservation, owner));
  }

  /** Places of reservations that have begun, of an owner's. */
  private begunOf(owner: Owner): readonly Kept[] {
    return this.ownedBy(owner).filter(({ reservation: { startMs } }) => startMs <= this.at.now);
  }

  /** Counts what an owner takes in the course of the plan (`sign` 1), or gives back (-1), wherever it lies. */
  change({ owner, counts }: { owner: Owner; counts: ReadonlyMap<string, number> }, sign: 1 | -1) {
    for (const kept of this.ownedBy(owner)) {
      for (const milli of counts.values()) kept.takenMilli += sign * milli;
    }
  }

  /** The places that so many GPUs of a model are due to an owner on, beside what it holds there; undefined: none. */
  dueOn(of: Wish): ReadonlySet<GpuId> | undefined {
    return this.begunOf(of.owner).find((kept) => hasRoom(kept, of))?.ids;
  }

  /** The same of places that are kept for an owner, if for later. */
  roomOn(of: Wish): ReadonlySet<GpuId> | undefined {
    return this.ownedBy(of.owner).find((kept) => hasRoom(kept, of))?.ids;
  }

  /** Whether all GPUs of a holder are on its places; of those alone that are not also `unlessOf`'s. */
  counts(owner: Owner, gpus: readonly GpuId[], unlessOf: Owner | undefined): boolean {
    if (gpus.length === 0) return false;
    return this.begunOf(owner).some(
      ({ reservation, ids }) =>
        (unlessOf === undefined || !owns(reservation, unlessOf)) && gpus.every((id) => ids.has(id)),
    );
  }
}

const none: readonly GpuId[] = [];

/** GPUs that found no place. */
const lacking = (all: readonly Kept[]): number =>
  all.reduce((sum, each) => sum + each.reservation.gpus - each.ids.size, 0);

/** Whether so many GPUs more are within what is kept. */
function hasRoom({ bundles, takenMilli }: Kept, { model, milli }: Wish): boolean {
  const gpus = bundles.flatMap((bundle) => bundle.gpus);
  if (gpus[0]?.model !== model) return false;
  const own = gpus.filter((each) => each.own).length;
  return own * 1000 + takenMilli + milli <= gpus.length * 1000;
}

const idsOf = ({ bundles }: Pick<Kept, "bundles">): GpuId[] =>
  bundles.flatMap(({ gpus }) => gpus.map(({ id }) => id));

/** Whether a reservation asks for several GPUs on one node each; one at a time lies anywhere. */
export const isBundled = ({ perNode = 1 }: PlanReservation): boolean => perNode > 1;

/** Whether all of a GPU is there once those have gone who hold something of it. */
const isWholeOnce = ({ free }: PlanGpu, leases: readonly PlanLease[]): boolean =>
  free || (leases.length > 0 && leases.every(({ part }) => part === undefined));

function leasesByGpu({ running }: PlanNode): ReadonlyMap<GpuId, readonly PlanLease[]> {
  const leases = new Map<GpuId, PlanLease[]>();
  for (const lease of running) {
    for (const id of lease.gpus) {
      const known = leases.get(id);
      if (known === undefined) leases.set(id, [lease]);
      else known.push(lease);
    }
  }
  return leases;
}

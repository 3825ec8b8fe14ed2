import type { GpuId, OrgId } from "@fastgpu/domain/ids";
import { Flow } from "../flow.ts";
import type { PlanReservation } from "../plan.ts";
import { covers, Estate, type Hold, type Lack, type Models } from "./estate.ts";
import type { Owner } from "./queues.ts";

/** GPUs of a model that somebody would hold past a moment. */
export interface Want {
  readonly owner: Owner;
  readonly model: string;
  readonly milli: number;
  /** It can be stopped for whom GPUs are reserved. */
  readonly givesWay: boolean;
  /** Of shares: thousandths of the GPUs that they would be of. */
  readonly wholeMilli?: number | undefined;
}

/** A GPU of which shares are held past a moment, in thousandths. */
interface SharedGpu {
  readonly model: string;
  /** What there is of it for whom GPUs are reserved. */
  readonly total: number;
  /** Shares of who owns no reservation, and cannot be stopped. */
  readonly firm: number;
  /** Shares of owners. */
  readonly own: number;
}

/** A GPU of which somebody else keeps a share is no whole one, and nothing of it counts. */
const worthOf = ({ total, firm, own }: SharedGpu): number => (firm > 0 ? 0 : total - own);

/** All reservations served as far as it goes. */
interface Served {
  readonly flow: Flow;
  /** What there is for anybody, by model. */
  readonly open: readonly number[];
  /** What lacks in all … */
  readonly lacking: number;
  /** … and whether some does, by model that would do. */
  readonly short: readonly boolean[];
}

/**
 * The beginning of a reservation, or now for those that have begun, with all reservations that last then. Who has which
 * GPUs is open: they are counted by model, and reservations that share models share what there is of them, as far as a
 * flow goes. Of what owners hold as much counts for their reservations as can; what is more than that, and can be
 * stopped, is there for others like what anybody else holds that can be stopped.
 */
export class Moment {
  readonly atMs: number;
  private readonly reservations: readonly PlanReservation[];
  private readonly models: Models;
  /** Whether some reservation may be of a model, by position. */
  private readonly wanted: readonly boolean[];
  /** What is idle then, or held by who gives way and owns none of the reservations; may be too little. */
  private readonly open: number[];
  private readonly estates: Map<OrgId, Estate>;
  private readonly shared = new Map<GpuId, SharedGpu>();
  private present: Served | undefined;
  /** Answers about the present. */
  private readonly answers = new Map<string, number>();
  /** What no reservation needs of each model, at least: known from before, less all that has been taken since. */
  private readonly atLeast: number[];

  constructor(atMs: number, of: { reservations: readonly PlanReservation[]; models: Models }) {
    const { reservations, models } = of;
    this.atMs = atMs;
    this.reservations = reservations;
    this.models = models;
    this.wanted = models.names.map((name) => reservations.some((each) => covers(each, name)));
    this.open = models.names.map(() => 0);
    this.atLeast = models.names.map(() => 0);
    const byOrg = Map.groupBy(reservations, ({ org }) => org);
    this.estates = new Map([...byOrg].map(([org, own]) => [org, new Estate(own, models)]));
  }

  /** Counts GPUs that there are. */
  supply(model: string, milli: number): void {
    this.open[this.models.at(model)]! += milli;
    this.forget();
  }

  /** Counts a GPU of which shares are held. */
  supplyShared(
    id: GpuId,
    of: {
      model: string;
      total: number;
      held: readonly (Pick<Hold, "owner"> & { milli: number })[];
    },
  ): void {
    const { model, total } = of;
    let [firm, own] = [0, 0];
    for (const { owner, milli } of of.held) {
      if (this.estateOf(owner) === undefined) firm += milli;
      else own += milli;
    }
    const gpu = { model, total, firm, own };
    this.shared.set(id, gpu);
    this.supply(model, worthOf(gpu));
  }

  /** Whether somebody who cannot be stopped keeps a share of a GPU. */
  isBroken(id: GpuId): boolean {
    return (this.shared.get(id)?.firm ?? 0) > 0;
  }

  /** GPUs of which somebody does. */
  broken(): { readonly id: GpuId; readonly model: string }[] {
    return [...this.shared].flatMap(([id, { firm, model }]) => (firm > 0 ? [{ id, model }] : []));
  }

  /** The reservations of which somebody is an owner, with others of its organisation; undefined: of none. */
  private estateOf(owner: Owner): Estate | undefined {
    const estate = this.estates.get(owner.org);
    return estate === undefined || estate.keyOf(owner) === "" ? undefined : estate;
  }

  /** Whether who holds this is in the way of no reservation: it counts as idle. */
  isIdle({ owner, givesWay }: Pick<Hold, "owner" | "givesWay">): boolean {
    return givesWay && this.estateOf(owner) === undefined;
  }

  /** Counts for reservations what their owners hold (`sign` 1), or hold no longer (-1). */
  own(hold: Hold, sign: 1 | -1): void {
    const estate = this.estateOf(hold.owner);
    if (estate === undefined) return;
    this.estates.set(hold.owner.org, estate.with(hold, sign));
    this.forget();
  }

  /** Takes what is idle (`sign` 1), or gives it back (-1). */
  take(hold: Hold, sign: 1 | -1): void {
    if (this.isIdle(hold)) return;
    let all = 0;
    for (const [model, milli] of hold.counts) {
      if (hold.shares === undefined) this.open[this.models.at(model)]! -= sign * milli;
      all += milli;
    }
    for (const { gpu, model, milli } of hold.shares ?? []) {
      all += Math.abs(this.share(gpu, { model, milli: sign * milli, owner: hold.owner }));
    }
    for (const at of this.atLeast.keys()) this.atLeast[at]! -= all;
    this.own(hold, sign);
    this.forget();
  }

  /** Takes a share of a GPU, or gives it back; answers by how much more there is for reservations. */
  private share(id: GpuId, of: { model: string; milli: number; owner: Owner }): number {
    const { model, milli, owner } = of;
    const before = this.shared.get(id) ?? { model, total: 1000, firm: 0, own: 0 };
    const owns = this.estateOf(owner) !== undefined;
    const after = owns
      ? { ...before, own: before.own + milli }
      : { ...before, firm: before.firm + milli };
    this.shared.set(id, after);
    const more = worthOf(after) - worthOf(before);
    this.open[this.models.at(model)]! += more;
    return more;
  }

  /** The reservation of others that GPUs of a model would cut into. */
  cutInto(want: Want): PlanReservation | undefined {
    const { owner, model } = want;
    const at = this.models.at(model);
    // Of an owner's share the rest stays for its reservation.
    const milli = this.estateOf(owner) === undefined ? (want.wholeMilli ?? want.milli) : want.milli;
    if (milli <= this.atLeast[at]! || this.isIdle(want)) return undefined;
    const estate = this.estateOf(owner);
    const key = estate?.keyOf(owner).split(",");
    if (key?.length === this.reservations.length) return undefined;
    const cuts = estate === undefined ? this.cuts(at, milli) : this.cutsAsOwner(estate, want);
    if (!cuts) return undefined;
    const own = new Set(key?.map((n) => estate!.reservations[Number(n)]));
    const others = this.reservations.filter((each) => !own.has(each));
    return others.find((each) => covers(each, model)) ?? others[0];
  }

  private cuts(at: number, milli: number): boolean {
    if (!this.wanted[at] || milli <= this.spare(at)) return false;
    const { open, short } = this.now();
    // Some of it is needed, or would be.
    return this.spare(at) < open[at]! || short[at]!;
  }

  private cutsAsOwner(estate: Estate, { owner, model, milli, givesWay }: Want): boolean {
    const at = this.models.at(model);
    if (milli <= this.spare(at)) return false;
    const counts = new Map([[model, milli]]);
    const key = `${owner.org} ${estate.keyOf(owner)} ${at} ${milli} ${givesWay}`;
    const lacking = this.answer(key, () => {
      const open = [...this.open];
      open[at]! -= milli;
      const after = estate.with({ owner, counts, givesWay }, 1);
      return this.serve(open, new Map([...this.estates, [owner.org, after]])).lacking;
    });
    return lacking > this.now().lacking;
  }

  /** What of a model no reservation needs. */
  private spare(at: number): number {
    return this.answer(`spare ${at}`, () => {
      const { got } = this.now().flow.copy().add([at], Number.POSITIVE_INFINITY);
      this.atLeast[at] = got;
      return got;
    });
  }

  /** Whether so many GPUs of a model count in full for reservations of the task's owner. */
  isDue(want: Omit<Want, "givesWay">): boolean {
    return this.estateOf(want.owner)?.isDue(want) === true;
  }

  /** Whether all that somebody holds counts for reservations; `unlessOf`: that are not also this one's. */
  counts(hold: Hold, unlessOf: Owner | undefined): boolean {
    const same = unlessOf?.org === hold.owner.org ? unlessOf : undefined;
    return this.estateOf(hold.owner)?.counts(hold, same) === true;
  }

  private now(): Served {
    return (this.present ??= this.serve(this.open, this.estates));
  }

  private forget(): void {
    this.present = undefined;
    if (this.answers.size > 0) this.answers.clear();
  }

  private answer(question: string, find: () => number): number {
    let known = this.answers.get(question);
    if (known === undefined) this.answers.set(question, (known = find()));
    return known;
  }

  /** Serves each reservation by its owners', then all of them by what is open. */
  private serve(idle: readonly number[], estates: ReadonlyMap<OrgId, Estate>): Served {
    const flow = new Flow(idle.map(() => 0));
    const open = [...idle];
    const lacks: Lack[] = [];
    // Reservations that may have the same, and nothing else, are one.
    const alike = new Map<string, { -readonly [K in keyof Lack]: Lack[K] }>();
    for (const estate of estates.values()) {
      for (const lack of estate.lacks(flow, open)) {
        if (lack.span !== undefined) {
          lacks.push(lack);
          continue;
        }
        const known = alike.get(lack.covered.join());
        if (known === undefined) alike.set(lack.covered.join(), { ...lack });
        else known.milli += lack.milli;
      }
    }
    for (const [at, milli] of open.entries()) flow.setLeft(at, Math.max(0, milli));
    const short = idle.map(() => false);
    let lacking = 0;
    for (const { covered, milli, span = flow.add([], 0).span } of [...lacks, ...alike.values()]) {
      flow.widen(span, covered);
      const left = milli - flow.serve(span, milli);
      lacking += left;
      if (left > 0) for (const at of covered) short[at] = true;
    }
    return { flow, open, lacking, short };
  }
}

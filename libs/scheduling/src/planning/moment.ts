import type { ProjectId } from "@fastgpu/domain/ids";
import { Flow } from "../flow.ts";
import type { PlanReservation } from "../plan.ts";
import type { Owner } from "./queues.ts";

/** Thousandths of GPUs that somebody holds past a moment, or would. */
export interface Hold {
  readonly owner: Owner;
  /** By model. */
  readonly counts: ReadonlyMap<string, number>;
  /** It can be stopped for whom GPUs are reserved. */
  readonly givesWay: boolean;
}

/** What tasks hold that are owners of the same reservations, in thousandths of GPUs by model. */
interface Class {
  /** Positions of the reservations. */
  readonly owned: readonly number[];
  /** Of those that cannot be stopped, then of those that can. */
  readonly held: { readonly firm: number[]; readonly loose: number[] };
}

/** What is idle, or held by who gives way and owns none of the reservations; and what owners hold. */
interface Held {
  readonly open: number[];
  readonly classes: Map<string, Class>;
}

/** A greatest flow from reservations over GPUs, each served by its owners' first. */
interface Served {
  /** Over what owners hold, and nothing else. */
  readonly own: Flow;
  /** How much of that counts for reservations. */
  readonly owned: number;
  /** First column of what a class holds. */
  readonly columns: ReadonlyMap<string, number>;
  /** Over everything. */
  readonly all: Flow;
  /** What there is for anybody, by model. */
  readonly open: readonly number[];
  /** What lacks, by reservation and in all. */
  readonly lacks: readonly number[];
  readonly lacking: number;
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
  private readonly models: readonly string[];
  private readonly held: Held;
  private readonly keys = new Map<ProjectId, string>();
  private present: Served | undefined;
  /** Answers about the present. */
  private readonly answers = new Map<string, number>();

  constructor(
    atMs: number,
    of: { reservations: readonly PlanReservation[]; models: readonly string[] },
  ) {
    this.atMs = atMs;
    this.reservations = of.reservations;
    this.models = of.models;
    this.held = { open: of.models.map(() => 0), classes: new Map() };
  }

  /** Counts GPUs that there are (`sign` 1), or that are gone (-1). */
  supply(model: string, milli: number): void {
    this.held.open[this.models.indexOf(model)]! += milli;
    this.forget();
  }

  /** Whether nobody who holds this is in the way of any reservation: it counts as idle. */
  isIdle({ owner, givesWay }: Pick<Hold, "owner" | "givesWay">): boolean {
    return givesWay && this.keyOf(owner) === "";
  }

  /** Counts for reservations what their owners hold (`sign` 1), or hold no longer (-1). */
  own({ owner, counts, givesWay }: Hold, sign: 1 | -1): void {
    const key = this.keyOf(owner);
    if (key === "") return;
    const { firm, loose } = this.classAt(key).held;
    for (const [model, milli] of counts) {
      (givesWay ? loose : firm)[this.models.indexOf(model)]! += sign * milli;
    }
    this.forget();
  }

  /** Takes what is idle (`sign` 1), or gives it back (-1). */
  take(hold: Hold, sign: 1 | -1): void {
    if (this.isIdle(hold)) return;
    for (const [model, milli] of hold.counts) this.supply(model, -sign * milli);
    this.own(hold, sign);
  }

  /** The reservation of others that GPUs of a model would cut into. */
  cutInto(of: {
    owner: Owner;
    model: string;
    milli: number;
    givesWay: boolean;
  }): PlanReservation | undefined {
    const { owner, model } = of;
    const others = this.reservations.filter((each) => !owns(each, owner));
    if (others.length === 0 || this.isIdle(of) || !this.mayCut(of)) return undefined;
    return others.find((each) => covers(each, model)) ?? others[0];
  }

  private mayCut(of: { owner: Owner; model: string; milli: number; givesWay: boolean }): boolean {
    const { owner, model, milli, givesWay } = of;
    const key = this.keyOf(owner);
    const at = this.models.indexOf(model);
    if (key === "") {
      const wanted = this.reservations.some((each) => covers(each, model));
      return wanted && milli > this.spare(at) && this.isNeeded(at);
    }
    const counts = new Map([[model, milli]]);
    const lacking = this.answer(`after ${key} ${at} ${milli} ${givesWay}`, () => {
      return this.serve(this.with({ owner, counts, givesWay })).lacking;
    });
    return lacking > this.now().lacking;
  }

  /** What of a model no reservation needs. */
  private spare(at: number): number {
    return this.answer(`spare ${at}`, () => {
      return this.now().all.copy().add([at], Number.POSITIVE_INFINITY).got;
    });
  }

  /** Whether some of a model is needed, or would be. */
  private isNeeded(at: number): boolean {
    const { lacks, open } = this.now();
    if (this.spare(at) < open[at]!) return true;
    return this.reservations.some((each, n) => lacks[n]! > 0 && covers(each, this.models[at]!));
  }

  /** Whether so many GPUs of a model count in full for reservations of the task's owner. */
  isDue(of: { owner: Owner; model: string; milli: number }): boolean {
    const { owner, model, milli } = of;
    const key = this.keyOf(owner);
    if (key === "" || milli === 0) return false;
    const counts = new Map([[model, milli]]);
    const owned = this.answer(`due ${key} ${model} ${milli}`, () => {
      return this.serveOwn(this.with({ owner, counts, givesWay: false })).owned;
    });
    return owned - this.now().owned >= milli;
  }

  /**
   * Whether all that somebody holds counts for reservations: of all owners', or of those alone that are not also
   * another's.
   */
  counts(hold: Hold, unlessOf: Owner | undefined): boolean {
    const key = this.keyOf(hold.owner);
    if (key === "") return false;
    const without = unlessOf === undefined ? "" : this.keyOf(unlessOf);
    const skip = new Set(without === "" ? [] : without.split(",").map(Number));
    if (this.classAt(key).owned.every((n) => skip.has(n))) return false;
    const base = hold.givesWay ? this.models.length : 0;
    return [...hold.counts.keys()].every((model) => {
      const at = base + this.models.indexOf(model);
      const spare = this.answer(`counts ${key} ${at} ${without}`, () => {
        const { own, columns } = skip.size === 0 ? this.now() : this.serveOwn(this.held, skip);
        return own.copy().add([columns.get(key)! + at], 1).got;
      });
      return spare === 0;
    });
  }

  private with({ owner, counts, givesWay }: Hold): Held {
    const key = this.keyOf(owner);
    const open = [...this.held.open];
    const { owned, held } = this.classAt(key);
    const [firm, loose] = [[...held.firm], [...held.loose]];
    for (const [model, milli] of counts) {
      const at = this.models.indexOf(model);
      open[at]! -= milli;
      (givesWay ? loose : firm)[at]! += milli;
    }
    return {
      open,
      classes: new Map([...this.held.classes, [key, { owned, held: { firm, loose } }]]),
    };
  }

  private now(): Served {
    return (this.present ??= this.serve(this.held));
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

  /** Serves reservations, but for some, by what their owners hold: what cannot be stopped first. */
  private serveOwn({ classes }: Pick<Held, "classes">, skip: ReadonlySet<number> = new Set()) {
    const { models, reservations } = this;
    const width = models.length;
    const supply = models.map(() => 0);
    const columns = new Map<string, number>();
    for (const [key, { held }] of classes) {
      columns.set(key, supply.length);
      supply.push(...held.firm, ...held.loose);
    }
    const own = new Flow(supply);
    const got = reservations.map(() => 0);
    let owned = 0;
    for (const from of [0, width]) {
      for (const [n, reservation] of reservations.entries()) {
        const mine = [...classes].flatMap(([key, each]) =>
          each.owned.includes(n)
            ? this.covered(reservation).map((at) => columns.get(key)! + from + at)
            : [],
        );
        if (from === 0) own.add([], 0);
        own.widen(n, mine);
        if (skip.has(n)) continue;
        const more = own.serve(n, reservation.gpus * 1000 - got[n]!);
        got[n]! += more;
        owned += more;
      }
    }
    return { own, owned, columns, got };
  }

  private serve(held: Held): Served {
    const { own, owned, columns, got } = this.serveOwn(held);
    const width = this.models.length;
    const all = own.copy();
    const open = [...held.open];
    for (const from of columns.values()) {
      for (let at = 0; at < 2 * width; at++) {
        // What can be stopped and counts for nothing is anybody's.
        if (at >= width) open[at - width]! += all.leftOf(from + at);
        all.setLeft(from + at, 0);
      }
    }
    for (const [at, milli] of open.entries()) all.setLeft(at, Math.max(0, milli));
    let lacking = 0;
    const lacks = this.reservations.map((reservation, n) => {
      all.widen(n, this.covered(reservation));
      const wanted = reservation.gpus * 1000 - got[n]!;
      return wanted - all.serve(n, wanted);
    });
    for (const each of lacks) lacking += each;
    return { own, owned, columns, all, open, lacks, lacking };
  }

  private covered(reservation: PlanReservation): number[] {
    return this.models.flatMap((model, at) => (covers(reservation, model) ? [at] : []));
  }

  /** Names the reservations of which somebody is an owner; "": none. */
  private keyOf(owner: Owner): string {
    let key = this.keys.get(owner.project);
    if (key === undefined) {
      const owned = this.reservations.flatMap((each, n) => (owns(each, owner) ? [n] : []));
      this.keys.set(owner.project, (key = owned.join()));
    }
    return key;
  }

  private classAt(key: string): Class {
    let found = this.held.classes.get(key);
    if (found === undefined) {
      const none = (): number[] => this.models.map(() => 0);
      const owned = key.split(",").map(Number);
      this.held.classes.set(key, (found = { owned, held: { firm: none(), loose: none() } }));
    }
    return found;
  }
}

/** Whether GPUs of a model will do for a reservation. */
export const covers = ({ models }: PlanReservation, model: string): boolean =>
  models.length === 0 || models.includes(model);

/** Whether a reservation is for tasks of this owner. */
export const owns = ({ org, project }: PlanReservation, owner: Owner): boolean =>
  owner.org === org && (project === undefined || owner.project === project);

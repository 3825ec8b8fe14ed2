import type { GpuId, ProjectId } from "@fastgpu/domain/ids";
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
  /** Where these are shares: of which GPUs. */
  readonly shares?:
    | readonly { readonly gpu: GpuId; readonly model: string; readonly milli: number }[]
    | undefined;
}

/** What is held of one GPU. */
export interface HeldGpu {
  readonly id: GpuId;
  readonly milli: number;
}

/** What tasks hold that are owners of the same reservations, in thousandths of GPUs by model. */
interface Class {
  /** Positions of the reservations. */
  readonly owned: readonly number[];
  /** Of those that cannot be stopped. */
  readonly firm: number[];
  /** Of those that can. */
  readonly loose: number[];
}

/** A greatest flow from reservations over what their owners hold. */
interface Counted {
  readonly flow: Flow;
  /** First column of what a class holds: what cannot be stopped, then what can. */
  readonly columns: ReadonlyMap<string, number>;
  /** By reservation. */
  readonly got: readonly number[];
  readonly owned: number;
  /** Number of the first reservation in the flow. */
  readonly first: number;
}

/** What one of the reservations still lacks. */
export interface Lack {
  readonly covered: readonly number[];
  readonly milli: number;
  /** Its number in the flow that it was put into, if it was. */
  readonly span: number | undefined;
}

/** Models of GPUs in a fixed order. */
export class Models {
  readonly names: readonly string[];
  private readonly positions: ReadonlyMap<string, number>;

  constructor(names: readonly string[]) {
    this.names = names;
    this.positions = new Map(names.map((name, at) => [name, at]));
  }

  at(name: string): number {
    return this.positions.get(name)!;
  }
}

/**
 * The reservations of one organisation and its projects that last at a moment, with what its tasks hold: as much of that
 * counts for the reservations as can, what cannot be stopped first.
 */
export class Estate {
  readonly reservations: readonly PlanReservation[];
  private readonly models: Models;
  /** Positions of the models that will do, by reservation. */
  private readonly covered: readonly (readonly number[])[];
  private readonly classes: ReadonlyMap<string, Class>;
  private readonly keys: Map<ProjectId, string>;
  private counted: Counted | undefined;
  private readonly answers = new Map<string, number>();

  constructor(
    reservations: readonly PlanReservation[],
    models: Models,
    of: { classes: ReadonlyMap<string, Class>; keys: Map<ProjectId, string> } = {
      classes: new Map(),
      keys: new Map(),
    },
  ) {
    this.reservations = reservations;
    this.models = models;
    this.covered = reservations.map((each) =>
      models.names.flatMap((model, at) => (covers(each, model) ? [at] : [])),
    );
    this.classes = of.classes;
    this.keys = of.keys;
  }

  /** Names the reservations of which somebody is an owner; "": none. */
  keyOf(owner: Owner): string {
    let key = this.keys.get(owner.project);
    if (key === undefined) {
      const owned = this.reservations.flatMap((each, n) => (owns(each, owner) ? [n] : []));
      this.keys.set(owner.project, (key = owned.join()));
    }
    return key;
  }

  /** The same with what an owner holds, or holds no longer (`sign` -1). */
  with({ owner, counts, givesWay }: Hold, sign: 1 | -1): Estate {
    const { reservations, models, keys } = this;
    const key = this.keyOf(owner);
    const none = (): number[] => models.names.map(() => 0);
    const before = this.classes.get(key);
    const owned = key.split(",").map(Number);
    const firm = before === undefined ? none() : [...before.firm];
    const loose = before === undefined ? none() : [...before.loose];
    for (const [model, milli] of counts) {
      (givesWay ? loose : firm)[models.at(model)]! += sign * milli;
    }
    const classes = new Map([...this.classes, [key, { owned, firm, loose }]]);
    return new Estate(reservations, models, { classes, keys });
  }

  /** Whether so many GPUs of a model count in full for reservations of the task's owner. */
  isDue({ owner, model, milli }: { owner: Owner; model: string; milli: number }): boolean {
    const key = this.keyOf(owner);
    if (key === "" || milli === 0) return false;
    const counts = new Map([[model, milli]]);
    const more = this.answer(`due ${key} ${model} ${milli}`, () => {
      return this.with({ owner, counts, givesWay: false }, 1).now().owned - this.now().owned;
    });
    return more >= milli;
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
    if (key.split(",").every((n) => skip.has(Number(n)))) return false;
    const base = hold.givesWay ? this.models.names.length : 0;
    return [...hold.counts.keys()].every((model) => {
      const at = base + this.models.at(model);
      const spare = this.answer(`counts ${key} ${at} ${without}`, () => {
        const { flow, columns } = skip.size === 0 ? this.now() : this.count(new Flow([]), skip);
        return flow.copy().add([columns.get(key)! + at], 1).got;
      });
      return spare === 0;
    });
  }

  /**
   * What the reservations lack beside what their owners hold. What these hold beyond, and can be stopped, is added to
   * what is open. Several reservations may share what is held otherwise where that helps: they are put into the flow.
   */
  lacks(all: Flow, open: number[]): Lack[] {
    const own = this.reservations.length === 1 ? this.now() : this.count(all, new Set());
    const { flow, columns, got } = own;
    const width = this.models.names.length;
    for (const from of columns.values()) {
      for (let at = 0; at < width; at++) open[at]! += flow.leftOf(from + width + at);
      if (flow !== all) continue;
      for (let at = 0; at < 2 * width; at++) all.setLeft(from + at, 0);
    }
    return this.reservations.map(({ gpus }, n) => ({
      covered: this.covered[n]!,
      milli: gpus * 1000 - got[n]!,
      span: flow === all ? own.first + n : undefined,
    }));
  }

  private now(): Counted {
    return (this.counted ??= this.count(new Flow([]), new Set()));
  }

  private answer(question: string, find: () => number): number {
    let known = this.answers.get(question);
    if (known === undefined) this.answers.set(question, (known = find()));
    return known;
  }

  /** Serves reservations, but for some, in a flow by what their owners hold. */
  private count(flow: Flow, skip: ReadonlySet<number>): Counted {
    const { reservations, classes, covered } = this;
    const width = this.models.names.length;
    const columns = new Map<string, number>();
    for (const [key, { firm, loose }] of classes) {
      columns.set(key, flow.addColumns([...firm, ...loose]));
    }
    const spans = reservations.map(() => flow.add([], 0).span);
    const got = reservations.map(() => 0);
    let owned = 0;
    for (const from of [0, width]) {
      for (const [n, { gpus }] of reservations.entries()) {
        if (skip.has(n)) continue;
        for (const [key, each] of classes) {
          if (!each.owned.includes(n)) continue;
          const first = columns.get(key)! + from;
          flow.widen(
            spans[n]!,
            covered[n]!.map((at) => first + at),
          );
        }
        const more = flow.serve(spans[n]!, gpus * 1000 - got[n]!);
        got[n]! += more;
        owned += more;
      }
    }
    return { flow, columns, got, owned, first: spans[0]! };
  }
}

/** Whether GPUs of a model will do for a reservation. */
export const covers = ({ models }: PlanReservation, model: string): boolean =>
  models.length === 0 || models.includes(model);

/** Whether a reservation is for tasks of this owner. */
export const owns = ({ org, project }: PlanReservation, owner: Owner): boolean =>
  owner.org === org && (project === undefined || owner.project === project);

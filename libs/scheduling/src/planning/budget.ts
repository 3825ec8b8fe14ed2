import type { GpuId, ProjectId } from "@fastgpu/domain/ids";
import { milliOfDemand, milliOfPart } from "../gpu-part.ts";
import type {
  PlanLease,
  PlanNode,
  PlanQueue,
  PlanReservation,
  PlanState,
  PlanTask,
} from "../plan.ts";
import type { Attempt } from "./crew.ts";
import { endOf } from "./line.ts";
import { rowsByKey, rowsOf, type Owner } from "./queues.ts";

/** A limit that keeps a task waiting. */
export interface LimitHit {
  readonly of: "user" | "project" | "organisation";
  /** Undefined: of GPUs of any model. */
  readonly model: string | undefined;
  readonly limitGpus: number;
  /** Parts of GPUs count as such, in thousandths. */
  readonly heldGpus: number;
}

/** Thousandths of GPUs by model. */
type Counts = ReadonlyMap<string, number>;

/** What changes hands: an attempt's GPUs, whose, and when it ends at the latest. */
interface Change {
  readonly owner: Owner;
  readonly counts: Counts;
  readonly endMs: number;
}

/** A row of the queues with what it holds, in thousandths of GPUs. */
interface Account {
  readonly row: PlanQueue;
  held: number;
  readonly byModel: Map<string, number>;
  /** The same without what the plan's draft has ended: it holds its GPUs still. */
  sure: number;
  readonly sureByModel: Map<string, number>;
}

/** A reservation with what is left for it. */
interface Promised {
  readonly reservation: PlanReservation;
  /** Thousandths of GPUs that are free when it starts, by the latest ends of what runs. */
  free: number;
  /** Thousandths of GPUs that its owner's tasks hold then. */
  own: number;
}

/**
 * What queues and reservations leave to each task: limits (in all, and by GPU model) are never passed; GPUs reserved
 * from a time on are taken by nobody else's task that might outlast that time, and while the reservation lasts only by
 * its owner's. Follows what the plan takes and gives back.
 */
export class Budget {
  private readonly accounts = new Map<PlanQueue, Account>();
  private readonly rows: ReadonlyMap<string, PlanQueue>;
  private readonly promised: readonly Promised[];
  private readonly models: readonly string[];
  /** Whether anything is reserved for now. */
  readonly dueNow: boolean;
  /** Whether anything is guaranteed by model, or reserved for now. */
  readonly guards: boolean;
  private readonly rowsByOwner = new Map<ProjectId, Map<string, readonly PlanQueue[]>>();

  constructor(state: PlanState, of: { attempts: readonly Attempt[]; now: number }) {
    const { now } = of;
    this.rows = rowsByKey(state.queues.filter(matters));
    for (const row of this.rows.values()) {
      this.accounts.set(row, {
        ...{ row, held: 0, byModel: new Map() },
        ...{ sure: 0, sureByModel: new Map() },
      });
    }
    this.promised = state.reservations
      .filter(({ endMs, gpus }) => endMs > now && gpus > 0)
      .toSorted((a, b) => a.startMs - b.startMs || (a.id < b.id ? -1 : 1))
      .map((reservation) => ({ reservation, free: 0, own: 0 }));
    this.models = this.rules ? modelsOf(state.nodes) : [];
    this.dueNow = this.promised.some(({ reservation }) => reservation.startMs <= now);
    this.guards =
      this.dueNow ||
      [...this.rows.values()].some(({ models }) =>
        Object.values(models).some(({ guaranteedGpus }) => guaranteedGpus > 0),
      );
    if (!this.rules) return;
    for (const node of this.promised.length > 0 ? state.nodes : []) this.countFree(node, now);
    for (const attempt of of.attempts) {
      const { lease: owner, counts } = attempt;
      const change = { owner, counts, endMs: endOf(attempt, now) };
      this.hold(change, 1);
      this.lease(change, 1);
    }
  }

  /** The accounts and reservations that a plan has to mind. */
  private get rules(): boolean {
    return this.rows.size > 0 || this.promised.length > 0;
  }

  /** What runs is in nobody's way once it has ended: it counts as free then. */
  private countFree(node: PlanNode, now: number): void {
    if (!node.acceptsWork) return;
    const leases = new Map<GpuId, PlanLease[]>();
    for (const lease of node.running) {
      for (const id of lease.gpus) {
        const known = leases.get(id);
        if (known === undefined) leases.set(id, [lease]);
        else known.push(lease);
      }
    }
    for (const gpu of node.gpus) {
      const held = leases.get(gpu.id) ?? [];
      const left = gpu.free ? 1000 - partsOf(held) : 0;
      for (const each of this.promised) {
        const { startMs } = each.reservation;
        if (!covers(each.reservation, gpu.model)) continue;
        each.free += left + partsOf(held.filter((lease) => endOf({ lease }, now) <= startMs));
      }
    }
  }

  /** The lists of models that a task may use, best first, each as it asks for them (empty: any); none: it has to wait. */
  allowed(task: PlanTask, endMs: number): readonly (readonly string[])[] {
    const { demand } = task;
    const preferences =
      demand.gpuModels.length > 1 ? demand.gpuModels.map((model) => [model]) : [demand.gpuModels];
    if (!this.rules || demand.gpuCount === 0) return preferences;
    if (this.promised.length === 0 && this.rowsOf(task).length === 0) return preferences;
    const milli = milliOfTask(task);
    if (this.fullRow(task, milli) !== undefined) return [];
    const open = (model: string): boolean =>
      this.fullRow(task, milli, model) === undefined &&
      this.fullReservation(task, { model, milli, endMs }) === undefined;
    return preferences.flatMap((models) => {
      const asked = models.length > 0 ? models : this.models;
      const left = asked.filter(open);
      if (left.length === asked.length) return [models];
      return left.length === 0 ? [] : [left];
    });
  }

  /** The limit that keeps a task from starting as things stand; undefined where none does. */
  limit(task: PlanTask): LimitHit | undefined {
    const { demand } = task;
    const milli = milliOfTask(task);
    if (milli === 0 || this.rows.size === 0) return undefined;
    const full = this.fullRow(task, milli);
    if (full !== undefined) return hitOf(full);
    const asked = demand.gpuModels.length > 0 ? demand.gpuModels : this.models;
    const hits = asked.map((model) => ({ model, full: this.fullRow(task, milli, model) }));
    const [first] = hits;
    if (first?.full === undefined || hits.some((hit) => hit.full === undefined)) return undefined;
    return hitOf(first.full, first.model);
  }

  /** The reservation that keeps a task from starting, where one does. */
  reservedFor(task: PlanTask, endMs: number): PlanReservation | undefined {
    const { demand } = task;
    const milli = milliOfTask(task);
    if (milli === 0 || this.promised.length === 0) return undefined;
    const asked = demand.gpuModels.length > 0 ? demand.gpuModels : this.models;
    const hits = asked.map((model) => this.fullReservation(task, { model, milli, endMs }));
    return hits.includes(undefined) ? undefined : hits[0];
  }

  /** Takes GPUs in the course of the plan (`sign` 1), or gives them back (-1). */
  change(change: Change, sign: 1 | -1): void {
    if (!this.rules) return;
    this.hold(change, sign);
    for (const each of this.promised) {
      if (outlasts(change, each)) each.free -= sign * covered(each.reservation, change.counts);
    }
  }

  /** Counts what is leased for sure in this plan (`sign` 1), or is not after all (-1). */
  lease({ owner, counts }: Pick<Change, "owner" | "counts">, sign: 1 | -1): void {
    for (const row of this.rowsOf(owner)) {
      const account = this.accounts.get(row)!;
      for (const [model, milli] of counts) {
        account.sure += sign * milli;
        account.sureByModel.set(model, (account.sureByModel.get(model) ?? 0) + sign * milli);
      }
    }
  }

  /** Whether GPUs can be leased before anything of this plan's draft has ended. */
  mayLease({ owner, counts }: Pick<Change, "owner" | "counts">): boolean {
    return this.rowsOf(owner).every((row) => {
      const { sure, sureByModel } = this.accounts.get(row)!;
      let all = 0;
      for (const [model, milli] of counts) {
        all += milli;
        if ((sureByModel.get(model) ?? 0) + milli > milliOf(row.models[model]?.limitGpus))
          return false;
      }
      return sure + all <= milliOf(row.limitGpus);
    });
  }

  private hold({ owner, counts, endMs }: Change, sign: 1 | -1): void {
    for (const row of this.rowsOf(owner)) {
      const account = this.accounts.get(row)!;
      for (const [model, milli] of counts) {
        account.held += sign * milli;
        account.byModel.set(model, (account.byModel.get(model) ?? 0) + sign * milli);
      }
    }
    for (const each of this.promised) {
      if (owns(each.reservation, owner) && endMs > each.reservation.startMs) {
        each.own += sign * covered(each.reservation, counts);
      }
    }
  }

  private rowsOf(owner: Owner): readonly PlanQueue[] {
    if (this.rows.size === 0) return noRows;
    let users = this.rowsByOwner.get(owner.project);
    if (users === undefined) this.rowsByOwner.set(owner.project, (users = new Map()));
    let rows = users.get(owner.user);
    if (rows === undefined) users.set(owner.user, (rows = rowsOf(this.rows, owner)));
    return rows;
  }

  private fullRow(task: Owner, milli: number, model?: string): Account | undefined {
    for (const row of this.rowsOf(task)) {
      const account = this.accounts.get(row)!;
      const limit = model === undefined ? row.limitGpus : row.models[model]?.limitGpus;
      const held = model === undefined ? account.held : (account.byModel.get(model) ?? 0);
      if (held + milli > milliOf(limit)) return account;
    }
    return undefined;
  }

  /** The reservation of others that GPUs of a model would cut into. */
  private fullReservation(
    task: Owner,
    of: { model: string; milli: number; endMs: number },
  ): PlanReservation | undefined {
    for (const each of this.promised) {
      const { reservation } = each;
      if (owns(reservation, task) || !covers(reservation, of.model)) continue;
      if (of.endMs <= reservation.startMs) continue;
      // Those of others that last at the same time may have to share the models with it.
      let due = 0;
      for (const other of this.promised) {
        if (!together(reservation, other.reservation)) continue;
        const own = owns(other.reservation, task) ? of.milli : 0;
        due += Math.max(0, other.reservation.gpus * 1000 - other.own - own);
      }
      if (each.free - of.milli < due) return reservation;
    }
    return undefined;
  }

  /** Models of which a task may have its GPUs within a guarantee by model, or a reservation of its owner's. */
  guaranteedModels(task: PlanTask, now: number): readonly string[] {
    if (!this.guards || task.demand.gpuCount === 0) return [];
    const milli = milliOfTask(task);
    const rows = this.rowsOf(task);
    return this.asked(task).filter((model) => {
      const byRow = rows.some((row) => {
        const { guaranteedGpus = 0 } = row.models[model] ?? {};
        return (this.accounts.get(row)!.byModel.get(model) ?? 0) + milli <= guaranteedGpus * 1000;
      });
      return byRow || this.isDue(task, { model, milli, now });
    });
  }

  /** Models of which a task is due its GPUs now, by a reservation of its owner's. */
  dueModels(task: PlanTask, now: number): readonly string[] {
    if (!this.dueNow || task.demand.gpuCount === 0) return [];
    const milli = milliOfTask(task);
    return this.asked(task).filter((model) => this.isDue(task, { model, milli, now }));
  }

  private asked({ demand }: PlanTask): readonly string[] {
    return demand.gpuModels.length > 0 ? demand.gpuModels : this.models;
  }

  private isDue(task: Owner, of: { model: string; milli: number; now: number }): boolean {
    return this.promised.some(
      (each) => isDueBy(each, task, of) && covers(each.reservation, of.model),
    );
  }

  /**
   * Whether stopping an attempt for a task cuts into a guarantee by model, or a reservation, that is not the task's. Who
   * is due GPUs now goes before guarantees, and takes nothing from others of the same reservation.
   */
  protects(attempt: Attempt, task: PlanTask, now: number): boolean {
    if (!this.guards) return false;
    const { counts } = attempt;
    const of = { milli: milliOfTask(task), now };
    const due = this.promised.some((each) => isDueBy(each, task, of));
    return (
      (!due && this.isGuaranteed(attempt, task)) ||
      this.promised.some(
        (each) =>
          each.reservation.startMs <= now &&
          owns(each.reservation, attempt.lease) &&
          (!owns(each.reservation, task) || isDueBy(each, task, of)) &&
          covered(each.reservation, counts) > 0 &&
          each.own <= each.reservation.gpus * 1000,
      )
    );
  }

  private isGuaranteed({ lease, counts }: Attempt, task: Owner): boolean {
    const mine = new Set(this.rowsOf(task));
    for (const row of this.rowsOf(lease)) {
      if (mine.has(row)) continue;
      const { byModel } = this.accounts.get(row)!;
      for (const [model, milli] of counts) {
        const { guaranteedGpus = 0 } = row.models[model] ?? {};
        if (guaranteedGpus > 0 && (byModel.get(model) ?? 0) - milli < guaranteedGpus * 1000)
          return true;
      }
    }
    return false;
  }
}

/** Thousandths of GPUs that all members of a task ask for. */
const milliOfTask = ({ demand, replicas }: PlanTask): number => milliOfDemand(demand) * replicas;

/** A limit in thousandths of GPUs. */
const milliOf = (limitGpus: number | undefined): number =>
  limitGpus === undefined ? Number.POSITIVE_INFINITY : limitGpus * 1000;

/** Thousandths of one GPU that leases hold. */
const partsOf = (leases: readonly PlanLease[]): number =>
  leases.reduce((sum, lease) => sum + milliOfPart(lease.part), 0);

const noRows: readonly PlanQueue[] = [];

const matters = (row: PlanQueue): boolean =>
  row.limitGpus !== undefined || Object.keys(row.models).length > 0;

const modelsOf = (nodes: readonly PlanNode[]): readonly string[] =>
  [...new Set(nodes.flatMap(({ gpus }) => gpus.map(({ model }) => model)))].toSorted();

const covers = ({ models }: PlanReservation, model: string): boolean =>
  models.length === 0 || models.includes(model);

const owns = ({ org, project }: PlanReservation, owner: Owner): boolean =>
  owner.org === org && (project === undefined || owner.project === project);

/** Whether a reservation that has begun has so much left for a task of its owner's. */
const isDueBy = (
  { reservation, own }: Promised,
  task: Owner,
  { milli, now }: { milli: number; now: number },
): boolean =>
  milli > 0 &&
  reservation.startMs <= now &&
  owns(reservation, task) &&
  own + milli <= reservation.gpus * 1000;

const outlasts = ({ endMs }: Change, { reservation }: Promised): boolean =>
  endMs > reservation.startMs;

/** Whether two reservations last at the same time and may want the same GPUs. */
const together = (a: PlanReservation, b: PlanReservation): boolean =>
  a.startMs < b.endMs &&
  b.startMs < a.endMs &&
  (a.models.length === 0 || b.models.length === 0 || a.models.some((model) => covers(b, model)));

function covered(reservation: PlanReservation, counts: Counts): number {
  let sum = 0;
  for (const [model, milli] of counts) if (covers(reservation, model)) sum += milli;
  return sum;
}

function hitOf({ row, held, byModel }: Account, model?: string): LimitHit {
  const of =
    row.project === undefined ? "organisation" : row.user === undefined ? "project" : "user";
  const limitGpus = model === undefined ? row.limitGpus : row.models[model]?.limitGpus;
  const heldMilli = model === undefined ? held : (byModel.get(model) ?? 0);
  return { of, model, limitGpus: limitGpus ?? 0, heldGpus: heldMilli / 1000 };
}

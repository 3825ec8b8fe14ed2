import type { GpuId, ProjectId } from "@fastgpu/domain/ids";
import { milliOfDemand } from "../gpu-part.ts";
import type { PlanNode, PlanQueue, PlanReservation, PlanState, PlanTask } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { Attempt } from "./crew.ts";
import { rowsByKey, rowsOf, type Owner } from "./queues.ts";
import { mayBorrow, Reserved, type Change } from "./reserved.ts";

/** A limit that keeps a task waiting. */
export interface LimitHit {
  readonly of: "user" | "project" | "organisation";
  /** Undefined: of GPUs of any model. */
  readonly model: string | undefined;
  readonly limitGpus: number;
  /** Parts of GPUs count as such, in thousandths. */
  readonly heldGpus: number;
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

/**
 * What queues and reservations leave to each task: limits (in all, and by GPU model) are never passed, and GPUs that are
 * reserved are left to their owner (reserved.ts). Follows what the plan takes and gives back.
 */
export class Budget {
  private readonly accounts = new Map<PlanQueue, Account>();
  private readonly rows: ReadonlyMap<string, PlanQueue>;
  private readonly reserved: Reserved;
  private readonly policy: SchedulingPolicy;
  private readonly nodes: readonly PlanNode[];
  private readonly models: readonly string[];
  /** Whether anything is guaranteed by model, or reserved for now. */
  readonly guards: boolean;
  private readonly rowsByOwner = new Map<ProjectId, Map<string, readonly PlanQueue[]>>();

  constructor(
    state: PlanState,
    of: { attempts: readonly Attempt[]; policy: SchedulingPolicy; now: number },
  ) {
    this.policy = of.policy;
    this.nodes = state.nodes;
    this.rows = rowsByKey(state.queues.filter(matters));
    for (const row of this.rows.values()) {
      this.accounts.set(row, {
        ...{ row, held: 0, byModel: new Map() },
        ...{ sure: 0, sureByModel: new Map() },
      });
    }
    this.models = this.rows.size > 0 || state.reservations.length > 0 ? modelsOf(state.nodes) : [];
    this.reserved = new Reserved(state, { ...of, models: this.models });
    this.guards =
      this.dueNow ||
      [...this.rows.values()].some(({ models }) =>
        Object.values(models).some(({ guaranteedGpus }) => guaranteedGpus > 0),
      );
    if (this.rows.size === 0) return;
    for (const attempt of of.attempts) {
      const { lease: owner, counts } = attempt;
      this.hold({ owner, counts }, 1);
      this.lease({ owner, counts }, 1);
    }
  }

  /** Whether anything is reserved for now. */
  get dueNow(): boolean {
    return this.reserved.begun;
  }

  /** Whether certain GPUs are kept for a reservation, so that it matters which ones a task gets. */
  get keepsPlaces(): boolean {
    return this.reserved.keepsPlaces;
  }

  /** What a running attempt holds. */
  heldBy(attempt: Attempt): Change {
    return this.reserved.changeOf(attempt);
  }

  /** What a task would hold, in thousandths of GPUs by model. */
  takenBy(task: PlanTask, of: Omit<Change, "owner" | "givesWay">): Change {
    return { owner: task, ...of, givesWay: this.givesWay(task) };
  }

  /** GPUs that the shares of a task have to be on, where others would cut into a reservation; undefined: any. */
  sharesGoTo(task: PlanTask, of: { models: readonly string[]; endMs: number }) {
    if (!this.reserved.any || task.demand.part?.kind !== "share") return undefined;
    const want = { ...this.want(task, "with loans"), endMs: of.endMs };
    const models = of.models.length > 0 ? of.models : this.models;
    for (const model of models) {
      const gpus = this.reserved.sharesGoTo({ ...want, model });
      if (gpus !== undefined) return gpus;
    }
    return undefined;
  }

  /** GPUs that a task must not get, as certain nodes are kept for others. */
  offLimits(task: PlanTask, endMs: number, loans: "with loans" | "without loans" = "with loans") {
    if (!this.keepsPlaces) return [];
    const barred = this.reserved.offLimits(this.holderOf(task, endMs, loans));
    const others = this.besideOwnPlaces(task, { endMs, loans });
    return others.length === 0 ? barred : [...barred, ...others];
  }

  /** GPUs that a running attempt must not move to, where it would be until an end. */
  offLimitsOf(attempt: Attempt, endMs: number): readonly GpuId[] {
    return this.reserved.offLimits({ ...this.heldBy(attempt), endMs });
  }

  /** GPUs of models of which a task may have none but on places of its owner's. */
  private besideOwnPlaces(
    task: PlanTask,
    { endMs, loans }: { endMs: number; loans: "with loans" | "without loans" },
  ): GpuId[] {
    const wanted = { ...this.want(task, loans), endMs };
    return this.asked(task).flatMap((model) => {
      const own = this.reserved.keepsTo({ ...wanted, model });
      if (own === undefined) return [];
      const gpus = this.nodes.flatMap((node) => node.gpus);
      return gpus.flatMap((gpu) => (gpu.model === model && !own.has(gpu.id) ? [gpu.id] : []));
    });
  }

  /** The reservation that they are kept for; undefined: there are none. */
  placesOf(task: PlanTask, endMs: number): PlanReservation | undefined {
    if (task.demand.gpuCount === 0) return undefined;
    return this.reserved.placesOf(this.holderOf(task, endMs, "with loans"));
  }

  private holderOf(task: PlanTask, endMs: number, loans: "with loans" | "without loans") {
    return { owner: task, endMs, givesWay: loans === "with loans" && this.givesWay(task) };
  }

  private want(task: PlanTask, loans: "with loans" | "without loans") {
    const { demand, replicas } = task;
    const shares = demand.part?.kind === "share";
    return {
      owner: task,
      milli: milliOfTask(task),
      wholeMilli: shares ? demand.gpuCount * replicas * 1000 : undefined,
      givesWay: loans === "with loans" && this.givesWay(task),
    };
  }

  private givesWay(task: PlanTask): boolean {
    const { policy } = this;
    return this.reserved.any && mayBorrow(task, { policy, gpuMilli: milliOfTask(task) });
  }

  /** The lists of models that a task may use, best first, each as it asks for them (empty: any); none: it has to wait. */
  allowed(task: PlanTask, endMs: number): readonly (readonly string[])[] {
    const { demand } = task;
    const preferences =
      demand.gpuModels.length > 1 ? demand.gpuModels.map((model) => [model]) : [demand.gpuModels];
    if (demand.gpuCount === 0) return preferences;
    const { any } = this.reserved;
    if (!any && this.rowsOf(task).length === 0) return preferences;
    const milli = milliOfTask(task);
    if (this.fullRow(task, milli) !== undefined) return [];
    const wanted = { ...this.want(task, "with loans"), endMs };
    const open = (model: string): boolean =>
      this.fullRow(task, milli, model) === undefined &&
      !(any && this.reserved.cutInto({ ...wanted, model }) !== undefined);
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

  /**
   * The reservation that keeps a task from starting, where one does; or that it would need a loan from, which may end at
   * any moment.
   */
  reservedFor(task: PlanTask, endMs: number, loans: "with loans" | "without loans" = "with loans") {
    const milli = milliOfTask(task);
    if (milli === 0 || !this.reserved.any) return undefined;
    const wanted = { ...this.want(task, loans), endMs };
    let first: PlanReservation | undefined;
    for (const model of this.asked(task)) {
      const hit = this.reserved.cutInto({ ...wanted, model });
      if (hit === undefined) return undefined;
      first ??= hit;
    }
    return first;
  }

  /** Takes GPUs in the course of the plan (`sign` 1), or gives them back (-1). */
  change(change: Change, sign: 1 | -1): void {
    this.hold(change, sign);
    this.reserved.change(change, sign);
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

  private hold({ owner, counts }: Pick<Change, "owner" | "counts">, sign: 1 | -1): void {
    for (const row of this.rowsOf(owner)) {
      const account = this.accounts.get(row)!;
      for (const [model, milli] of counts) {
        account.held += sign * milli;
        account.byModel.set(model, (account.byModel.get(model) ?? 0) + sign * milli);
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

  /** Models of which a task may have its GPUs within a guarantee by model, or a reservation of its owner's. */
  guaranteedModels(task: PlanTask): readonly string[] {
    if (!this.guards || task.demand.gpuCount === 0) return [];
    const milli = milliOfTask(task);
    const rows = this.rowsOf(task);
    return this.asked(task).filter((model) => {
      const byRow = rows.some((row) => {
        const { guaranteedGpus = 0 } = row.models[model] ?? {};
        return (this.accounts.get(row)!.byModel.get(model) ?? 0) + milli <= guaranteedGpus * 1000;
      });
      return byRow || this.reserved.isDue({ owner: task, model, milli });
    });
  }

  /** Models of which a task is due its GPUs now, by a reservation of its owner's. */
  dueModels(task: PlanTask): readonly string[] {
    if (!this.dueNow || task.demand.gpuCount === 0) return [];
    const milli = milliOfTask(task);
    return this.asked(task).filter((model) => this.reserved.isDue({ owner: task, model, milli }));
  }

  /** GPUs on which alone others have to give way to a task that is due some of these models; undefined: on any. */
  dueOn(task: PlanTask, models: readonly string[]): ReadonlySet<GpuId> | undefined {
    const milli = milliOfTask(task);
    for (const model of this.keepsPlaces ? models : []) {
      const gpus = this.reserved.dueOn({ owner: task, model, milli });
      if (gpus !== undefined) return gpus;
    }
    return undefined;
  }

  private asked({ demand }: PlanTask): readonly string[] {
    return demand.gpuModels.length > 0 ? demand.gpuModels : this.models;
  }

  /**
   * Whether stopping an attempt for a task cuts into a guarantee by model, or a reservation, that is not the task's. Who
   * is due GPUs now goes before guarantees, and takes nothing from others of the same reservation.
   */
  protects(attempt: Attempt, task: PlanTask): boolean {
    if (!this.guards) return false;
    const due = this.dueModels(task).length > 0;
    if (!due && this.isGuaranteed(attempt, task)) return true;
    return this.reserved.protects(attempt, { task, due });
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

const noRows: readonly PlanQueue[] = [];

const matters = (row: PlanQueue): boolean =>
  row.limitGpus !== undefined || Object.keys(row.models).length > 0;

const modelsOf = (nodes: readonly PlanNode[]): readonly string[] =>
  [...new Set(nodes.flatMap(({ gpus }) => gpus.map(({ model }) => model)))].toSorted();

function hitOf({ row, held, byModel }: Account, model?: string): LimitHit {
  const of =
    row.project === undefined ? "organisation" : row.user === undefined ? "project" : "user";
  const limitGpus = model === undefined ? row.limitGpus : row.models[model]?.limitGpus;
  const heldMilli = model === undefined ? held : (byModel.get(model) ?? 0);
  return { of, model, limitGpus: limitGpus ?? 0, heldGpus: heldMilli / 1000 };
}

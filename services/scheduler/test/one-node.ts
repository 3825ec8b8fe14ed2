import { randomBytes } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { TaskSchema, type TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Clock } from "@fastgpu/domain/clock";
import {
  idToUuid,
  newId,
  type AttemptId,
  type GpuId,
  type NodeId,
  type OrgId,
  type ProjectId,
  type TaskId,
} from "@fastgpu/domain/ids";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Preemption } from "@fastgpu/scheduling/plan";
import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { commitLeases, type Committed } from "../src/cycle/commit.ts";
import { createMirror, oneMoment, type Mirror } from "../src/cycle/mirror.ts";
import { commitPreemptions, type Preempted } from "../src/cycle/preempt.ts";
import { parseTask } from "../src/spec/task-spec.ts";
import { readAttempts, type StoredAttempt } from "../src/store/attempts.ts";
import { openSession, readGpusOf, storeGpus, type StoredGpu } from "../src/store/nodes.ts";
import { insertTasks } from "../src/store/submits.ts";
import { readTasks, type StoredTask } from "../src/store/tasks.ts";
import { applyAttemptEvents } from "../src/transition/apply.ts";
import type { AttemptEvent } from "../src/transition/fold.ts";

// A node and its tenants on a real database, moved by the service's own steps: what the cycle decides is written here
// by hand, so that a test says exactly which plan it is about.

/** An id of a test. */
export const id = <P extends Parameters<typeof newId>[0]>(prefix: P) =>
  newId(prefix, 1_000, randomBytes(10));

/** Whose task it is. */
export interface Tenant {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
}

/** A tenant of its own, or another project or user of one. */
export const tenant = (of: Partial<Tenant> = {}): Tenant => ({
  ...{ org: id("org"), project: id("proj"), user: "key-1" },
  ...of,
});

/** The epoch of the leader in these tests. */
export const leaderEpoch = 7n;

const lead = statement(
  "test_lead",
  "insert into leader (name, epoch, holder, elected_ms) values ('cycle', $1, 'test', 0)",
);

type TaskSpecInit = Exclude<MessageInitShape<typeof TaskSpecSchema>, { $typeName: string }>;

/** What a task of a test asks for. */
export interface Wish {
  readonly gpus?: number;
  readonly spec?: Partial<TaskSpecInit>;
  readonly program?: string;
}

/** A fleet of one node. */
export class OneNode implements AsyncDisposable {
  readonly core: Pool;
  readonly node: NodeId;
  nowMs = 1_000_000;
  readonly clock: Clock = { nowMs: () => this.nowMs };
  readonly #close: () => Promise<void>;
  #gpus: readonly GpuId[] = [];

  private constructor(core: Pool, close: () => Promise<void>) {
    this.core = core;
    this.node = id("node");
    this.#close = close;
  }

  /** One node whose GPUs are of these models. */
  static async open(models: readonly string[]): Promise<OneNode> {
    const db = await testDatabase({ services: ["scheduler"] });
    const urls = db.urls["scheduler"]!;
    const pools = openDatabase({ service: "scheduler", urls, log: quiet });
    const fleet = new OneNode(pools.core, async () => {
      await pools[Symbol.asyncDispose]();
      await db[Symbol.asyncDispose]();
    });
    await pools.core.query(lead, [leaderEpoch]);
    await transaction(pools.core, async (tx) => {
      const { node, nowMs } = fleet;
      await openSession(tx, {
        ...{ id: node, displayName: "n", workerVersion: "0", bootId: "", replica: "r", nowMs },
        ...{ cpuMillis: 64_000, memoryMib: 65_536, diskMib: 0, runtimes: ["process"] },
        ...{ leaseUntilMs: 1e12, topology: {} },
      });
      const gpus = models.map((model, index) => ({
        ...{ newId: id("gpu"), index, uuid: `u-${index}`, model },
        ...{ memoryMib: 1_024, simulated: true },
      }));
      await storeGpus(tx, node, gpus);
      fleet.#gpus = gpus.map((gpu) => gpu.newId);
    });
    return fleet;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  /** GPUs by their position. */
  at(...positions: readonly number[]): GpuId[] {
    return positions.map((position) => this.#gpus[position]!);
  }

  /** Submits a task, under a name for people; answers its id. */
  async submit(of: Tenant, wish: Wish = {}, displayName = ""): Promise<TaskId> {
    const { gpus = 1, spec, program = "train" } = wish;
    const full: TaskSpecInit = {
      runtime: { case: "process", value: { command: [program] } },
      resources: { gpu: { count: gpus } },
      ...spec,
    };
    const task = create(TaskSchema, { spec: full, displayName });
    const { nowMs } = this;
    const parsed = parseTask(task, { project: of.project, nowMs });
    const taskId = id("task");
    await insertTasks(this.core, [
      {
        ...{ id: taskId, ...of, task: parsed, state: "QUEUED", waitingFor: 0, nowMs },
        ...{ traceparent: "", request: undefined, events: [] },
      },
    ]);
    return taskId;
  }

  /** The mirror as a new leader reads it. */
  async mirror(): Promise<Mirror> {
    const mirror = createMirror(this.clock);
    await transaction(this.core, (tx) => mirror.rebuild(tx), oneMoment);
    return mirror;
  }

  /** Leases a waiting task as a plan would that places it on these GPUs. */
  async tryLease(task: TaskId, positions: readonly number[], elements = 1): Promise<Committed> {
    const plan = (await this.mirror()).waiting.get(task);
    if (plan === undefined) throw new Error(`${task} does not wait`);
    const gpus = this.at(...positions);
    const placement = { task: plan, elements, members: [{ node: this.node, gpus }] };
    const priced = gpus.map((gpu) => ({ id: gpu, sku: "s", priceVersion: 1, simulated: true }));
    const members = [{ node: this.node, gpus: priced }];
    const funded = { attempt: id("att"), placement, fundedMs: 1, members };
    const at = { leaderEpoch, nowMs: this.nowMs, startLeaseSpan: () => "" };
    return transaction(this.core, (tx) => commitLeases(tx, [funded], at));
  }

  /** As {@link tryLease}, and the attempt runs. */
  async run(task: TaskId, positions: readonly number[], elements = 1): Promise<AttemptId> {
    const [leased] = (await this.tryLease(task, positions, elements)).leased;
    if (leased === undefined) throw new Error("the lease was rejected");
    await this.report(leased.attempt, { kind: "running", isolation: "" });
    return leased.attempt;
  }

  /** A report of the worker about an attempt. */
  async report(attempt: AttemptId, what: AttemptEvent["what"]): Promise<void> {
    const { epoch } = await this.attempt(attempt);
    const event = { attempt, member: 0, node: this.node, epoch, atMs: this.nowMs, what };
    await transaction(this.core, (tx) => applyAttemptEvents(tx, [event], this.nowMs));
  }

  /** The worker says that an attempt ended. */
  async end(
    attempt: AttemptId,
    exitClass: StoredAttempt["exitClass"] & {},
    more: Pick<Extract<AttemptEvent["what"], { kind: "ended" }>["end"], "elementResults"> = {},
  ): Promise<void> {
    const end = { exitClass, message: "", goneMs: this.nowMs, ...more };
    await this.report(attempt, { kind: "ended", end });
  }

  /** Commits preemptions with the present epochs of the preemptors. */
  async preempt(...preemptions: readonly Preemption[]): Promise<Preempted> {
    const tasks = await readTasks(
      this.core,
      preemptions.map((each) => each.reservedFor),
    );
    const epochs = new Map(tasks.map((task) => [task.id, task.epoch]));
    const at = { leaderEpoch, nowMs: this.nowMs, epochs };
    return transaction(this.core, (tx) => commitPreemptions(tx, preemptions, at));
  }

  async task(of: TaskId): Promise<StoredTask> {
    return (await readTasks(this.core, [of]))[0]!;
  }

  async attempt(of: AttemptId): Promise<StoredAttempt> {
    return (await readAttempts(this.core, [of]))[0]!;
  }

  async gpu(position: number): Promise<StoredGpu> {
    const gpus = await readGpusOf(this.core, [this.node]);
    return gpus.find((gpu) => gpu.id === this.#gpus[position])!;
  }

  /** Runs a statement for what no step of the service does. */
  async sql(text: string, ...values: readonly unknown[]): Promise<readonly object[]> {
    return this.core.query<object>({ name: "", text }, values);
  }
}

/** A preemption as a plan has it. */
export const inFavourOf = (
  reservedFor: TaskId,
  victim: { attempt: AttemptId; task: TaskId; gpus: readonly GpuId[] },
): Preemption => ({
  ...{ victim: victim.attempt, victimTask: victim.task, reservedFor, gpus: victim.gpus },
  message: "",
});

/** A uuid for a statement. */
export const uuid = idToUuid;

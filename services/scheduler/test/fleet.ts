import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { UsageCut } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { TaskSchema, type TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Clock } from "@fastgpu/domain/clock";
import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { ExitClass } from "@fastgpu/domain/states";
import { payloadOf, topics } from "@fastgpu/events/topics";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import type { Preemption } from "@fastgpu/scheduling/plan";
import { aTenant, anId } from "@fastgpu/testkit/factories";
import { commitLeases, type Committed, type FundedPlacement } from "../src/cycle/commit.ts";
import { createMirror, oneMoment, type Mirror } from "../src/cycle/mirror.ts";
import { commitPreemptions, type Preempted } from "../src/cycle/preempt.ts";
import { parseTask } from "../src/spec/task-spec.ts";
import { readAttempts, type StoredAttempt } from "../src/store/attempts.ts";
import { openSession, readGpusOf, storeGpus, type StoredGpu } from "../src/store/nodes.ts";
import { insertTasks } from "../src/store/submits.ts";
import { readTasks, type StoredTask } from "../src/store/tasks.ts";
import { applyAttemptEvents, type Applied } from "../src/transition/apply.ts";
import type { AttemptEvent } from "../src/transition/fold.ts";
import { openCore } from "./core.ts";

// Nodes and tenants on a real database, moved by the service's own steps: what the cycle decides is written here by
// hand, so that a test says exactly which plan it is about.

/** Where a test's fleet begins in time. */
export const startMs = Date.UTC(2026, 0, 1);
/** Until when its nodes have their leases. */
export const leaseUntilMs = startMs + 1_000 * 86_400_000;
/** The epoch of the leader in these tests. */
export const leaderEpoch = 7n;

/** Whose task it is. */
export interface Tenant {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
}

/** A tenant of its own, or another project or user of one. */
export const tenant = (of: Partial<Tenant> = {}): Tenant => ({
  ...{ ...aTenant(), user: "key-1" },
  ...of,
});

type TaskSpecInit = Exclude<MessageInitShape<typeof TaskSpecSchema>, { $typeName: string }>;

/** What a task of a test asks for. */
export interface Wish {
  readonly gpus?: number;
  readonly spec?: Partial<TaskSpecInit>;
  readonly program?: string;
  /** Its name for people. */
  readonly name?: string;
}

/** A node of the test's fleet with its GPUs in order. */
export interface FleetNode {
  readonly id: NodeId;
  readonly gpus: readonly GpuId[];
}

/** A member's place: the node's position in the fleet, and positions of GPUs on it. */
export type Place = readonly [node: number, ...gpus: number[]];

const elect = statement(
  "test_elect",
  "insert into leader (name, epoch, holder, elected_ms) values ('cycle', $1, 'test', 0)",
);
const cuts = statement<{ type: string; payload: Buffer }>(
  "test_cuts",
  "select type, payload from outbox where type = $1 and aggregate = $2 order by id",
);

/** A scheduler's database with some nodes, under one leader. */
export class Fleet implements AsyncDisposable {
  nowMs = startMs;
  readonly clock: Clock = { nowMs: () => this.nowMs };
  readonly core: Pool;
  readonly nodes: readonly FleetNode[];
  readonly #owned: AsyncDisposableStack;

  private constructor(core: Pool, nodes: readonly FleetNode[], owned: AsyncDisposableStack) {
    this.core = core;
    this.nodes = nodes;
    this.#owned = owned;
  }

  /** Nodes whose GPUs are of these models. */
  static async open(...modelsOfNodes: readonly (readonly string[])[]): Promise<Fleet> {
    await using stack = new AsyncDisposableStack();
    const { core } = stack.use(await openCore());
    await core.query(elect, [leaderEpoch]);
    const nodes: FleetNode[] = [];
    for (const models of modelsOfNodes) nodes.push(await addNode(core, models));
    return new Fleet(core, nodes, stack.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }

  /** The first node. */
  get node(): NodeId {
    return this.nodes[0]!.id;
  }

  /** GPUs of the first node by their position. */
  at(...positions: readonly number[]): GpuId[] {
    return positions.map((position) => this.nodes[0]!.gpus[position]!);
  }

  /** Submits a task, with one GPU a member unless the wish says otherwise; answers its id. */
  async submit(of: Tenant, wish: Wish = {}): Promise<TaskId> {
    const { gpus = 1, spec, program = "train", name = "" } = wish;
    const full: TaskSpecInit = {
      runtime: { case: "process", value: { command: [program] } },
      resources: { gpu: { count: gpus } },
      ...spec,
    };
    const { nowMs } = this;
    const given = create(TaskSchema, { spec: full, displayName: name });
    const task = parseTask(given, { project: of.project, nowMs });
    const id = anId("task");
    const state = "QUEUED";
    await insertTasks(this.core, [
      {
        ...{ id, ...of, task, state, waitingFor: 0, nowMs },
        ...{ traceparent: "", request: undefined, events: [] },
      },
    ]);
    return id;
  }

  /** The mirror as a new leader reads it. */
  async mirror(): Promise<Mirror> {
    const mirror = createMirror(this.clock);
    await transaction(this.core, (tx) => mirror.rebuild(tx), oneMoment);
    return mirror;
  }

  /** A waiting task's members on these GPUs, as a plan of now says it. */
  async placed(
    id: TaskId,
    places: readonly Place[],
    { elements = 1 } = {},
  ): Promise<FundedPlacement> {
    const task = (await this.mirror()).waiting.get(id);
    if (task === undefined) throw new Error(`${id} does not wait`);
    const members = places.map(([at, ...gpus]) => {
      const node = this.nodes[at]!;
      return { node: node.id, gpus: gpus.map((gpu) => node.gpus[gpu] ?? anId("gpu")) };
    });
    const sold = { sku: "gpu.simulated", priceVersion: 1, simulated: true };
    return {
      ...{ attempt: anId("att"), fundedMs: 600_000, placement: { task, elements, members } },
      members: members.map(({ node, gpus }) => ({
        node,
        gpus: gpus.map((gpu) => ({ id: gpu, ...sold })),
      })),
    };
  }

  /** What a commit is told. */
  get commitAt() {
    return { leaderEpoch, nowMs: this.nowMs, startLeaseSpan: () => "" };
  }

  /** Leases what a plan placed. */
  commit(...funded: readonly FundedPlacement[]): Promise<Committed> {
    return transaction(this.core, (tx) => commitLeases(tx, funded, this.commitAt));
  }

  /** Leases a waiting task on GPUs of the first node. */
  async tryLease(id: TaskId, positions: readonly number[], elements = 1): Promise<Committed> {
    return this.commit(await this.placed(id, [[0, ...positions]], { elements }));
  }

  /** As {@link tryLease}, and the attempt runs. */
  async run(id: TaskId, positions: readonly number[], elements = 1): Promise<AttemptId> {
    const [leased] = (await this.tryLease(id, positions, elements)).leased;
    if (leased === undefined) throw new Error("the lease was rejected");
    await this.report(leased.attempt, { kind: "running", isolation: "" });
    return leased.attempt;
  }

  /** Tells facts of attempts' members. */
  tell(...events: readonly AttemptEvent[]): Promise<Applied> {
    const nowMs = events.at(-1)!.atMs;
    return transaction(this.core, (tx) => applyAttemptEvents(tx, events, nowMs));
  }

  /** A report of the worker, now, about an attempt of one member. */
  async report(attempt: AttemptId, what: AttemptEvent["what"]): Promise<void> {
    const { epoch, node } = await this.attempt(attempt);
    await this.tell({ attempt, member: 0, node, epoch, atMs: this.nowMs, what });
  }

  /** The worker says that an attempt ended. */
  async end(
    attempt: AttemptId,
    exitClass: ExitClass,
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

  async task(id: TaskId): Promise<StoredTask> {
    return (await readTasks(this.core, [id]))[0]!;
  }

  members(attempt: AttemptId): Promise<readonly StoredAttempt[]> {
    return readAttempts(this.core, [attempt]);
  }

  async attempt(id: AttemptId): Promise<StoredAttempt> {
    return (await this.members(id))[0]!;
  }

  gpus(): Promise<readonly StoredGpu[]> {
    return readGpusOf(
      this.core,
      this.nodes.map(({ id }) => id),
    );
  }

  /** A GPU of the first node. */
  async gpu(position: number): Promise<StoredGpu> {
    const [id] = this.at(position);
    return (await this.gpus()).find((gpu) => gpu.id === id)!;
  }

  /** What was told of an attempt's GPU time, in order. */
  async usage(attempt: AttemptId): Promise<readonly UsageCut[]> {
    const rows = await this.core.query(cuts, [topics.usageCut.type, attempt]);
    return rows.map((row) => payloadOf(topics.usageCut, row));
  }

  /** Runs a statement for what no step of the service does. */
  async sql(text: string, ...values: readonly unknown[]): Promise<readonly object[]> {
    return this.core.query<object>({ name: "", text }, values);
  }
}

async function addNode(core: Pool, models: readonly string[]): Promise<FleetNode> {
  const id = anId("node");
  const gpus = models.map((model, index) => ({
    ...{ newId: anId("gpu"), index, uuid: `${id}-${index}`, model },
    ...{ memoryMib: 1_024, simulated: true },
  }));
  await transaction(core, async (tx) => {
    await openSession(tx, {
      ...{ id, displayName: id, workerVersion: "0", bootId: "", replica: "" },
      ...{ cpuMillis: 64_000, memoryMib: 65_536, diskMib: 0, runtimes: ["process"], topology: {} },
      ...{ leaseUntilMs, nowMs: startMs },
    });
    await storeGpus(tx, id, gpus);
  });
  return { id, gpus: gpus.map(({ newId }) => newId) };
}

/** A preemption as a plan has it. */
export const inFavourOf = (
  reservedFor: TaskId,
  victim: { attempt: AttemptId; task: TaskId; gpus: readonly GpuId[] },
): Preemption => ({
  ...{ victim: victim.attempt, victimTask: victim.task, reservedFor, gpus: victim.gpus },
  message: "",
});

/** Facts of the members of one lease; times are milliseconds after {@link startMs}. */
export function factsOf({ attempt, members }: FundedPlacement, epoch = 1) {
  const fact = (
    member: number,
    afterMs: number,
    what: AttemptEvent["what"],
    more: Partial<AttemptEvent> = {},
  ): AttemptEvent => ({
    ...{ attempt, member, epoch, atMs: startMs + afterMs, what },
    node: members[member]!.node,
    ...more,
  });
  return {
    fact,
    starting: (member: number, atMs: number) => fact(member, atMs, { kind: "starting" }),
    running: (member: number, atMs: number) =>
      fact(member, atMs, { kind: "running", isolation: "" }),
    finalizing: (member: number, atMs: number) => fact(member, atMs, { kind: "finalizing" }),
    ended: (member: number, atMs: number, exitClass: ExitClass = "ok", message = "") =>
      fact(member, atMs, {
        kind: "ended",
        end: {
          ...{ exitClass, message, goneMs: startMs + atMs },
          ...(exitClass === "user_exit" ? { exitCode: member + 1 } : {}),
          ...(exitClass === "ok" ? { exitCode: 0, manifestDigest: `digest-${member}` } : {}),
        },
      }),
  };
}

const die = statement("test_die", "select pg_terminate_backend(pg_backend_pid())");

/** The same transaction on a connection that is killed after so many statements. */
export function dyingAfter(tx: Tx, statements: number): Tx {
  let left = statements;
  return new Proxy(tx, {
    get(target, name, receiver) {
      if (name !== "query") return Reflect.get(target, name, receiver) as unknown;
      return async (...args: Parameters<Tx["query"]>) => {
        if (left === 0) await target.query(die);
        left -= 1;
        return target.query(...args);
      };
    },
  });
}

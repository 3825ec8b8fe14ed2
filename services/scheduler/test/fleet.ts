import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { UsageCut } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { TaskSchema, type TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { AttemptId, GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import type { ExitClass } from "@fastgpu/domain/states";
import { payloadOf, topics } from "@fastgpu/events/topics";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import { plainTask, type Placement } from "@fastgpu/scheduling/plan";
import { testDatabase } from "@fastgpu/testkit/database";
import { aTenant, anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { commitLeases, type Committed, type FundedPlacement } from "../src/cycle/commit.ts";
import { parseTask } from "../src/spec/task-spec.ts";
import { readAttempts, type StoredAttempt } from "../src/store/attempts.ts";
import { openSession, readGpusOf, storeGpus, type StoredGpu } from "../src/store/nodes.ts";
import { insertTasks } from "../src/store/submits.ts";
import { readTasks, type StoredTask } from "../src/store/tasks.ts";
import { applyAttemptEvents, type Applied } from "../src/transition/apply.ts";
import type { AttemptEvent } from "../src/transition/fold.ts";

/** Where a test's fleet begins in time. */
export const startMs = Date.UTC(2026, 0, 1);
/** The lead that the tests have. */
export const leaderEpoch = 1n;

/** What a commit of the tests is told. */
export const commitAt = { leaderEpoch, nowMs: startMs, startLeaseSpan: () => "" };

/** A node of the test's fleet with its GPUs in order. */
export interface FleetNode {
  readonly id: NodeId;
  readonly gpus: readonly GpuId[];
}

/** A scheduler's database with some nodes, of one tenant, under one leader. */
export interface Fleet extends AsyncDisposable {
  readonly core: Pool;
  readonly nodes: readonly FleetNode[];
  readonly tenant: ReturnType<typeof aTenant>;
  /** Stores a queued task with one GPU a member. */
  submit(spec: MessageInitShape<typeof TaskSpecSchema>): Promise<TaskId>;
  /** The task's members on these GPUs of nodes, as a plan says it; the epoch is the task's of now. */
  placed(task: TaskId, ...members: [node: number, ...gpus: number[]][]): Promise<FundedPlacement>;
  commit(...funded: readonly FundedPlacement[]): Promise<Committed>;
  /** Tells facts of an attempt's members. */
  tell(...events: readonly AttemptEvent[]): Promise<Applied>;
  task(id: TaskId): Promise<StoredTask>;
  members(attempt: AttemptId): Promise<readonly StoredAttempt[]>;
  gpus(): Promise<readonly StoredGpu[]>;
  /** What was told of an attempt's GPU time, in order. */
  usage(attempt: AttemptId): Promise<readonly UsageCut[]>;
}

const elect = statement(
  "test_elect",
  "insert into leader (name, epoch, holder, elected_ms) values ('cycle', $1, 'test', 0)",
);
const cuts = statement<{ type: string; payload: Buffer }>(
  "test_cuts",
  "select type, payload from outbox where type = $1 and aggregate = $2 order by id",
);

/** Makes a fleet of nodes with so many simulated GPUs each. */
export async function makeFleet(gpusOfNodes: readonly number[]): Promise<Fleet> {
  const db = await testDatabase({ services: ["scheduler"] });
  const pools = openDatabase({
    service: "scheduler",
    urls: db.urls["scheduler"]!,
    log: quiet,
  });
  const { core } = pools;
  const tenant = aTenant();
  await core.query(elect, [leaderEpoch]);
  const nodes: FleetNode[] = [];
  for (const count of gpusOfNodes) nodes.push(await addNode(core, count));

  return {
    ...{ core, nodes, tenant },
    submit: (spec) => submit(core, tenant, spec),
    async placed(id, ...members) {
      const [task] = await readTasks(core, [id]);
      return fund(task!, nodes, members);
    },
    commit: (...funded) => transaction(core, (tx) => commitLeases(tx, funded, commitAt)),
    tell: (...events) =>
      transaction(core, (tx) => applyAttemptEvents(tx, events, events.at(-1)!.atMs)),
    task: async (id) => (await readTasks(core, [id]))[0]!,
    members: (attempt) => readAttempts(core, [attempt]),
    gpus: () =>
      readGpusOf(
        core,
        nodes.map(({ id }) => id),
      ),
    usage: async (attempt) =>
      (await core.query(cuts, [topics.usageCut.type, attempt])).map((row) =>
        payloadOf(topics.usageCut, row),
      ),
    async [Symbol.asyncDispose]() {
      await pools[Symbol.asyncDispose]();
      await db[Symbol.asyncDispose]();
    },
  };
}

async function addNode(core: Pool, count: number): Promise<FleetNode> {
  const id = anId("node");
  const machine = { cpuMillis: 64_000, memoryMib: 65_536, diskMib: 0, runtimes: ["process"] };
  const times = { leaseUntilMs: startMs + 3_600_000, nowMs: startMs };
  const names = { displayName: id, workerVersion: "0", bootId: "", replica: "", topology: {} };
  const gpus = Array.from({ length: count }, (_, index) => ({
    ...{ newId: anId("gpu"), index, uuid: `${id}-${index}`, model: "sim", memoryMib: 1_024 },
    simulated: true,
  }));
  await transaction(core, async (tx) => {
    await openSession(tx, { id, ...names, ...machine, ...times });
    await storeGpus(tx, id, gpus);
  });
  return { id, gpus: gpus.map(({ newId }) => newId) };
}

async function submit(
  core: Pool,
  tenant: ReturnType<typeof aTenant>,
  spec: MessageInitShape<typeof TaskSpecSchema>,
): Promise<TaskId> {
  const id = anId("task");
  const given = create(TaskSchema, {
    spec: {
      runtime: { case: "process", value: { command: ["true"] } },
      resources: { gpu: { count: 1 } },
      ...spec,
    } as MessageInitShape<typeof TaskSpecSchema>,
  });
  await insertTasks(core, [
    {
      ...{ id, ...tenant, task: parseTask(given, { ...tenant, nowMs: startMs }) },
      ...{
        state: "QUEUED",
        user: "key-1",
        waitingFor: 0,
        nowMs: startMs,
        traceparent: "",
        request: undefined,
        events: [],
      },
    },
  ]);
  return id;
}

function fund(
  task: StoredTask,
  nodes: readonly FleetNode[],
  places: readonly [node: number, ...gpus: number[]][],
): FundedPlacement {
  const members = places.map(([at, ...gpus]) => ({
    node: nodes[at]!.id,
    gpus: gpus.map((gpu) => nodes[at]!.gpus[gpu] ?? anId("gpu")),
  }));
  const { id, org, project, epoch, priority, demand, stopGraceMs, replicas, topology } = task;
  const placement: Placement = {
    task: {
      ...plainTask,
      ...{ id, org, project, epoch, priority, demand, stopGraceMs, replicas, topology },
      ...{ submittedMs: startMs, notBeforeMs: 0, excludedGpus: [] },
      array: undefined,
    },
    elements: 1,
    members,
  };
  const sold = { sku: "gpu.simulated", priceVersion: 1, simulated: true };
  return {
    ...{ attempt: anId("att"), placement, fundedMs: 600_000 },
    members: members.map(({ node, gpus }) => ({
      node,
      gpus: gpus.map((gpu) => ({ id: gpu, ...sold })),
    })),
  };
}

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

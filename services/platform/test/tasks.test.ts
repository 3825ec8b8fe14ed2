import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import {
  DependencyCondition,
  ExitClass,
  LogStream,
  QueueReason,
  SimulatedPolicy,
  TaskSchema,
  TaskState,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { describeFailures } from "@fastgpu/auditor/audit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  endOf,
  script,
  settledAudit,
  stateName,
  testPlatform,
  withSpec,
  type TestPlatform,
} from "./harness.ts";

let p: TestPlatform;
beforeAll(async () => {
  p = await testPlatform();
});
afterAll(async () => {
  const report = await settledAudit(p);
  await p[Symbol.asyncDispose]();
  expect(describeFailures(report)).toBe("");
});

const run = (task: Task, requestId = randomUUID()) =>
  p.tasks.runTask({ parent: p.parent, requestId, task });

async function refusal(call: Promise<unknown>): Promise<Fault> {
  const thrown: unknown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(Fault);
  return thrown as Fault;
}

/** Follows a task until a state is reached. */
async function reaches(name: string, state: TaskState): Promise<Task> {
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (task !== undefined && task.state === state) return task;
  }
  throw new Error(`${name} ended without reaching ${state}`);
}

async function readLog(name: string, cursor = "") {
  const records = [];
  for await (const part of p.tasks.readLogs({ name, cursor, follow: true }))
    records.push(...part.records);
  return records.map((record) => ({ ...record, text: Buffer.from(record.data).toString() }));
}

describe("a task", () => {
  test("runs, keeps its outputs and its log, and is billed for the GPU it had", async () => {
    const task = script(
      'echo out; echo err >&2; echo "{\\"step\\":1,\\"of\\":2,\\"metrics\\":{\\"loss\\":0.5}}" >&$FASTGPU_PROGRESS_FD; ' +
        'echo result > "$FASTGPU_OUTPUT_DIR/answer.txt"; sleep 0.3',
      { gpus: 1 },
    );
    const { name } = await run(task);
    const end = await endOf(p, name);
    expect(stateName(end)).toBe("TASK_STATE_SUCCEEDED");
    expect(end.exitClass).toBe(ExitClass.OK);
    expect(end.progress).toMatchObject({ step: 1n, of: 2n, metrics: { loss: 0.5 } });
    expect(end.gpus).toMatchObject([{ simulated: true }]);
    expect(end.result?.files).toMatchObject([{ path: "answer.txt", sizeBytes: 7n }]);

    const log = await readLog(name);
    const of = (stream: LogStream) =>
      log
        .filter((record) => record.stream === stream)
        .map((record) => record.text)
        .join("");
    expect([of(LogStream.STDOUT), of(LogStream.STDERR)]).toEqual(["out\n", "err\n"]);
    // A reader that resumes behind the first record gets exactly the rest.
    const rest = await readLog(name, log[0]?.cursor);
    expect(rest.map((record) => record.text)).toEqual(log.slice(1).map((record) => record.text));

    await settledAudit(p);
    const { usageRecords } = await p.billing.listUsageRecords({ parent: p.parent, task: name });
    const billed = usageRecords.filter((record) => record.kind === UsageKind.BILLABLE);
    expect(billed.length).toBeGreaterThan(0);
    expect(billed.every((record) => record.simulated && record.sku === "gpu.simulated")).toBe(true);
    const { costs } = await p.billing.batchGetTaskCosts({ parent: p.parent, tasks: [name] });
    const total = usageRecords.reduce((sum, record) => sum + (record.amount?.nanos ?? 0n), 0n);
    expect(costs[0]).toMatchObject({ final: true, cost: { nanos: total } });
    expect(total).toBeGreaterThan(0n);
  });

  test("that fails says how, and is not repeated for its own fault", async () => {
    const { name } = await run(script("exit 7"));
    const end = await endOf(p, name);
    expect(end).toMatchObject({
      state: TaskState.FAILED,
      exitClass: ExitClass.USER_EXIT,
      exitCode: 7,
      attemptCount: 1,
    });
  });

  test("is repeated where its policy says so", async () => {
    const task = script("exit 7");
    const { name } = await run(
      withSpec(task, { retry: { maxRetries: 1, retryOn: [ExitClass.USER_EXIT] } }),
    );
    const end = await endOf(p, name);
    expect(end).toMatchObject({ state: TaskState.FAILED, attemptCount: 2 });
    const { attempts } = await p.tasks.listAttempts({ parent: name });
    expect(attempts.map((attempt) => attempt.exitClass)).toEqual([
      ExitClass.USER_EXIT,
      ExitClass.USER_EXIT,
    ]);
  });

  test("that is cancelled gets its signal and its grace time", async () => {
    const task = script('trap "echo saved; exit 0" TERM; echo up; while :; do sleep 0.1; done', {
      gpus: 1,
    });
    const { name } = await run(task);
    await reaches(name, TaskState.RUNNING);
    await p.tasks.cancelTask({ name, reason: "enough" });
    const end = await endOf(p, name);
    expect(end).toMatchObject({ state: TaskState.CANCELLED, exitClass: ExitClass.CANCELLED });
    expect((await readLog(name)).map((record) => record.text).join("")).toContain("saved");
    // A second cancel changes nothing.
    expect((await p.tasks.cancelTask({ name })).revision).toBe(end.revision);
  });

  test("that ignores the signal is killed after its grace time", async () => {
    const task = script('trap "" TERM; echo up; while :; do sleep 0.1; done');
    const { name } = await run(withSpec(task, { stopGrace: durationFromMs(300) }));
    await reaches(name, TaskState.RUNNING);
    await p.tasks.cancelTask({ name });
    expect((await endOf(p, name)).state).toBe(TaskState.CANCELLED);
  });

  test("that runs too long ends with TIMEOUT", async () => {
    const task = script("sleep 60");
    const { name } = await run(
      withSpec(task, { maxRuntime: durationFromMs(1_000), stopGrace: durationFromMs(100) }),
    );
    expect(await endOf(p, name)).toMatchObject({
      state: TaskState.FAILED,
      exitClass: ExitClass.TIMEOUT,
    });
  });

  test("that forbids simulated GPUs waits, and says that no node could ever run it", async () => {
    const task = script("true", { gpus: 1 });
    const { name } = await run(withSpec(task, { simulated: SimulatedPolicy.FORBID }));
    for await (const { task: seen } of p.tasks.watchTask({ name }, { timeoutMs: 20_000 })) {
      if (seen?.queueReason !== QueueReason.UNSATISFIABLE) continue;
      expect(seen.statusMessage).toContain("simulated");
      break;
    }
    expect((await p.tasks.cancelTask({ name })).state).toBe(TaskState.CANCELLED);
  });
});

describe("submitting", () => {
  test("the same request id and body give the same task; another body is refused, naming the field (I2)", async () => {
    const requestId = randomUUID();
    const first = await run(script("true"), requestId);
    const again = await run(script("true"), requestId);
    expect(again.name).toBe(first.name);
    const other = await refusal(run(script("false"), requestId));
    expect([other.code, other.reason]).toEqual(["ALREADY_EXISTS", "REQUEST_ID_REUSED"]);
    expect(other.violations[0]?.field).toContain("command");
    await endOf(p, first.name);
  });

  test("64 racing submits of one request id make one task (I2)", async () => {
    const requestId = randomUUID();
    const all = await Promise.all(Array.from({ length: 64 }, () => run(script("true"), requestId)));
    expect(new Set(all.map((task) => task.name)).size).toBe(1);
  });

  test("a draft does nothing until it is submitted, once", async () => {
    const draft = await p.tasks.createTask({ parent: p.parent, task: script("true") });
    expect(draft.state).toBe(TaskState.DRAFT);
    const requestId = randomUUID();
    const submitted = await p.tasks.submitTask({ name: draft.name, requestId });
    expect(submitted.state).not.toBe(TaskState.DRAFT);
    expect((await p.tasks.submitTask({ name: draft.name, requestId })).name).toBe(draft.name);
    expect((await endOf(p, draft.name)).state).toBe(TaskState.SUCCEEDED);
    const second = await refusal(p.tasks.submitTask({ name: draft.name }));
    expect(second.reason).toBe("ILLEGAL_STATE");
  });

  test("validate_only changes nothing", async () => {
    const before = await p.tasks.listTasks({ parent: p.parent, pageSize: 1000 });
    await p.tasks.runTask({ parent: p.parent, task: script("true"), validateOnly: true });
    const after = await p.tasks.listTasks({ parent: p.parent, pageSize: 1000 });
    expect(after.tasks.length).toBe(before.tasks.length);
  });

  test("a batch answers each item for itself", async () => {
    const good = script("true");
    const bad = script("true", { env: { LD_PRELOAD: "x" } });
    const { outcomes } = await p.tasks.batchRunTasks({
      parent: p.parent,
      items: [{ task: good }, { task: bad }],
    });
    expect(outcomes[0]?.outcome.case).toBe("task");
    expect(outcomes[1]?.outcome).toMatchObject({
      case: "error",
      value: { reason: "INVALID_FIELD", field: 'task.spec.env["LD_PRELOAD"]' },
    });
  });

  test.each([
    [
      "a spec over its limit",
      {
        env: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`V${i}`, "x".repeat(4_000)])),
      },
      "LIMIT_EXCEEDED",
      "task.spec.env",
    ],
    [
      "a path out of its directory",
      { outputs: ["../etc/passwd"] },
      "INVALID_FIELD",
      "task.spec.outputs[0]",
    ],
    [
      "a negative amount",
      { resources: { cpuMillis: -1n } },
      "INVALID_FIELD",
      "task.spec.resources.cpu_millis",
    ],
    [
      "an array without elements",
      { array: { count: 0 } },
      "INVALID_FIELD",
      "task.spec.array.count",
    ],
    [
      "GPU models without GPUs",
      { resources: { gpu: { models: ["H200"] } } },
      "INVALID_FIELD",
      "task.spec.resources.gpu.count",
    ],
    [
      "an unknown dependency",
      { dependsOn: [{ task: "nonsense" }] },
      "INVALID_FIELD",
      "task.spec.depends_on[0].task",
    ],
  ] as const)("%s is refused, naming the field", async (_what, over, reason, field) => {
    const task = script("true");
    const fault = await refusal(run(withSpec(task, over as never)));
    expect([fault.reason, fault.violations[0]?.field]).toEqual([reason, field]);
  });

  test("a project of nobody is refused as a foreign one is", async () => {
    const parent = "projects/proj-01m7zzzzzzzzzzzzzzzzzzzzzz";
    const fault = await refusal(p.tasks.runTask({ parent, task: script("true") }));
    expect(fault.reason).toBe("PERMISSION_DENIED");
  });
});

describe("tasks that wait for others", () => {
  test("start when their parents ended as asked, and fail in a row where they cannot", async () => {
    const good = await run(script("sleep 0.3"));
    const bad = await run(script("sleep 0.3; exit 1"));
    const on = (parent: string, condition: DependencyCondition = DependencyCondition.SUCCEEDED) => {
      const task = script("true");
      return run(withSpec(task, { dependsOn: [{ task: parent, condition }] }));
    };
    const child = await on(good.name);
    expect(child.queueReason).toBe(QueueReason.DEPENDENCY);
    const orphan = await on(bad.name);
    const grandchild = await on(orphan.name);
    const mourner = await on(bad.name, DependencyCondition.FAILED);
    expect((await endOf(p, child.name)).state).toBe(TaskState.SUCCEEDED);
    for (const { name } of [orphan, grandchild]) {
      expect(await endOf(p, name)).toMatchObject({
        state: TaskState.FAILED,
        exitClass: ExitClass.DEPENDENCY,
      });
    }
    expect((await endOf(p, mourner.name)).state).toBe(TaskState.SUCCEEDED);
    // Parents that ended before the submit count as well.
    expect((await endOf(p, (await on(good.name)).name)).state).toBe(TaskState.SUCCEEDED);
  });
});

describe("an array", () => {
  test("runs every element once and counts them by how they ended", async () => {
    const { name } = await run(script('[ "$FASTGPU_ARRAY_INDEX" -lt 95 ]', { array: 100 }));
    const end = await endOf(p, name);
    expect(end).toMatchObject({
      state: TaskState.FAILED,
      exitClass: ExitClass.USER_EXIT,
      arrayStatus: { pending: 0, leased: 0, succeeded: 95, failed: 5, cancelled: 0 },
    });
  });

  test("of 10,000 elements is one call and ends with all of them", async () => {
    const { name } = await run(script("true", { array: 10_000 }));
    const end = await endOf(p, name, 120_000);
    expect(end).toMatchObject({ state: TaskState.SUCCEEDED, arrayStatus: { succeeded: 10_000 } });
  });

  test("that is cancelled gives up what waits and stops what runs", async () => {
    const { name } = await run(script("sleep 1", { array: 2_000 }));
    await reaches(name, TaskState.RUNNING);
    await p.tasks.cancelTask({ name });
    const end = await endOf(p, name);
    expect(end.state).toBe(TaskState.CANCELLED);
    const status = end.arrayStatus;
    expect((status?.succeeded ?? 0) + (status?.failed ?? 0) + (status?.cancelled ?? 0)).toBe(2_000);
  });
});

describe("lists", () => {
  test("page through everything once, and filter by label and state", async () => {
    const labelled = (n: number) =>
      create(TaskSchema, { ...script("true"), labels: { set: "paged", n: String(n) } });
    const made = await Promise.all(Array.from({ length: 7 }, (_, n) => run(labelled(n))));
    await Promise.all(made.map((task) => endOf(p, task.name)));
    const filter = "labels.set = paged AND state = SUCCEEDED";
    const seen: string[] = [];
    for (let pageToken = ""; ;) {
      const page = await p.tasks.listTasks({ parent: p.parent, filter, pageSize: 3, pageToken });
      seen.push(...page.tasks.map((task) => task.name));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
      const stolen = await refusal(
        p.tasks.listTasks({ parent: p.parent, filter: "labels.set = other", pageToken }),
      );
      expect(stolen.violations[0]?.field).toBe("page_token");
    }
    expect(seen.toSorted()).toEqual(made.map((task) => task.name).toSorted());
  });
});

import { ExitClass, LogStream, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aTenant } from "@fastgpu/testkit/factories";
import { afterEach, describe, expect, test } from "vitest";
import { runCli, startCli } from "./run-cli.ts";
import { type Script, type ScriptedGateway, aTask, startGateway } from "./scripted-gateway.ts";

const open: ScriptedGateway[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((gateway) => gateway.server.close(0)));
});
async function gatewayOf(
  script: Script,
  options?: Parameters<typeof startGateway>[1],
): Promise<ScriptedGateway> {
  const gateway = await startGateway(script, options);
  open.push(gateway);
  return gateway;
}

const line = (cursor: string, text: string, stream: LogStream = LogStream.STDOUT) => ({
  records: [{ stream, cursor, data: Buffer.from(text) }],
});

/** A task that writes two lines and ends as `end` says. */
function shortTask(end: { state: TaskState; exitClass?: ExitClass; exitCode?: number }): {
  script: Script;
  submitted: { task?: Task; requestId?: string };
} {
  const submitted: { task?: Task; requestId?: string } = {};
  let current: Task | undefined;
  const script: Script = {
    tasks: {
      runTask: async ({ parent, task, requestId }) => {
        Object.assign(submitted, { task, requestId });
        current = aTask(
          { project: parent },
          { state: TaskState.QUEUED, ...(task?.spec ? { spec: task.spec } : {}) },
        );
        return current;
      },
      getTask: async () => ({ ...(current as Task), ...end, revision: 3n }),
      watchTask: async function* () {
        yield { task: { ...(current as Task), revision: 1n } };
        yield { task: { ...(current as Task), state: TaskState.RUNNING, revision: 2n } };
        yield { task: { ...(current as Task), ...end, revision: 3n } };
      },
      readLogs: async function* () {
        yield line("5", "out\n");
        yield line("9", "err\n", LogStream.STDERR);
      },
    },
  };
  return { script, submitted };
}

describe("task run", () => {
  test.each([
    [{ state: TaskState.SUCCEEDED, exitClass: ExitClass.OK, exitCode: 0 }, 0],
    [{ state: TaskState.FAILED, exitClass: ExitClass.USER_EXIT, exitCode: 3 }, 3],
    [{ state: TaskState.FAILED, exitClass: ExitClass.OOM_HOST, exitCode: 137 }, 137],
    [{ state: TaskState.FAILED, exitClass: ExitClass.TIMEOUT, exitCode: 143 }, 124],
    [{ state: TaskState.FAILED, exitClass: ExitClass.IMAGE }, 126],
    [{ state: TaskState.FAILED, exitClass: ExitClass.NODE_LOST }, 125],
    [{ state: TaskState.FAILED, exitClass: ExitClass.OUTPUT_FAILED, exitCode: 0 }, 125],
    [{ state: TaskState.CANCELLED, exitClass: ExitClass.CANCELLED, exitCode: 0 }, 130],
  ])("ends a task that ended as %j with the exit code %d", async (end, code) => {
    const { script } = shortTask(end);
    const { address } = await gatewayOf(script);
    const result = await runCli(["task", "run", "--", "x"], { address });
    expect(result.code).toBe(code);
    // The task's own streams stay apart; what the command line says is on stderr only.
    expect(result.stdout).toBe("out\n");
    expect(result.stderr).toContain("err\n");
  });

  test("sends the spec and a request id", async () => {
    const { script, submitted } = shortTask({ state: TaskState.SUCCEEDED });
    const { address } = await gatewayOf(script);
    await runCli(
      ["task", "run", "-g", "1", "--name", "n", "--simulated", "forbid", "--", "a", "--flag"],
      { address },
    );
    expect(submitted.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(submitted.task).toMatchObject({
      displayName: "n",
      spec: { simulated: 2, resources: { gpu: { count: 1 } } },
    });
    expect(submitted.task?.spec?.runtime).toMatchObject({
      case: "process",
      value: { command: ["a", "--flag"] },
    });
  });

  test("with -o json prints the finished task, and the log beside it", async () => {
    const { script } = shortTask({
      state: TaskState.FAILED,
      exitClass: ExitClass.USER_EXIT,
      exitCode: 7,
    });
    const { address } = await gatewayOf(script);
    const result = await runCli(["task", "run", "-o", "json", "--", "x"], { address });
    expect(JSON.parse(result.stdout)).toMatchObject({ state: "TASK_STATE_FAILED", exitCode: 7 });
    expect(result.stderr).toContain("out\n");
    expect(result.code).toBe(7);
  });

  test("with --detach prints the task and ends at once; --quiet prints its id alone", async () => {
    const { script } = shortTask({ state: TaskState.FAILED });
    const { address } = await gatewayOf(script);
    const result = await runCli(["task", "run", "-d", "-q", "--", "x"], { address });
    expect(result).toMatchObject({ code: 0, stderr: "" });
    expect(result.stdout).toMatch(/^task-[0-9a-z]{26}\n$/);
  });

  test("Ctrl-C detaches: the task goes on, and it says how to come back", async () => {
    const { script } = shortTask({ state: TaskState.SUCCEEDED });
    let cancelled = false;
    script.tasks = {
      ...script.tasks,
      cancelTask: async () => {
        cancelled = true;
        return {};
      },
      watchTask: async function* (_request, { signal }) {
        yield { task: { ...aTask({ project: "projects/p" }), state: TaskState.RUNNING } };
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
      readLogs: async function* (_request, { signal }) {
        yield line("1", "working\n", LogStream.STDERR);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    };
    const { address } = await gatewayOf(script);
    const cli = startCli(["task", "run", "--", "x"], { address });
    await cli.says("working");
    cli.child.kill("SIGINT");
    const result = await cli.done;
    expect(result.code).toBe(130);
    expect(result.stderr).toMatch(/detached from task-\w+, which goes on/);
    expect(result.stderr).toMatch(/fastgpu task logs --follow task-\w+/);
    expect(result.stderr).toMatch(/fastgpu task cancel task-\w+/);
    expect(cancelled).toBe(false);
  });
});

describe("task logs --follow", () => {
  test("goes on at its cursor after a lost connection, says so, and doubles or loses nothing", async () => {
    const cursors: string[] = [];
    const gateway = await gatewayOf({
      tasks: {
        getTask: async ({ name }) =>
          aTask(gateway, {
            name,
            state: cursors.length < 3 ? TaskState.RUNNING : TaskState.SUCCEEDED,
          }),
        watchTask: async function* ({ name }) {
          yield { task: aTask(gateway, { name, state: TaskState.SUCCEEDED }) };
        },
        readLogs: async function* ({ cursor }) {
          cursors.push(cursor);
          if (cursors.length === 1) {
            yield line("a", "one\n");
            yield line("b", "two\n");
            throw new Fault("WORKER_UNREACHABLE", "the worker is not connected", {
              retryAfterMs: 1,
            });
          }
          // Ends in silence while the task still runs: not the end of the log.
          if (cursors.length === 2) return;
          yield line("c", "three\n");
        },
      },
    });
    const { name } = aTask(gateway);
    const result = await runCli(["task", "logs", "-f", name], { address: gateway.address });
    expect(result.stdout).toBe("one\ntwo\nthree\n");
    expect(cursors).toEqual(["", "b", "b"]);
    expect(result.stderr).toContain(
      "connection lost (the worker is not connected); it goes on after b",
    );
    expect(result.code).toBe(0);
  });

  test("outlives a restart of the gateway", async () => {
    const tenant = aTenant();
    const first = await startGateway(
      {
        tasks: {
          readLogs: async function* (_request, { signal }) {
            yield line("a", "before\n", LogStream.STDERR);
            await new Promise((resolve) => signal.addEventListener("abort", resolve));
          },
        },
      },
      { tenant },
    );
    const { name } = aTask(first);
    const cli = startCli(["task", "logs", "-f", name], { address: first.address });
    await cli.says("before");
    await first.server.close(0);
    await cli.says("connection lost");
    const second = await gatewayOf(
      {
        tasks: {
          getTask: async () => aTask(first, { name, state: TaskState.SUCCEEDED }),
          watchTask: async function* () {
            yield { task: aTask(first, { name, state: TaskState.SUCCEEDED }) };
          },
          readLogs: async function* ({ cursor }) {
            yield line("b", `after ${cursor}\n`, LogStream.STDERR);
          },
        },
      },
      { tenant, port: first.server.port ?? 0 },
    );
    expect(second.address).toBe(first.address);
    const result = await cli.done;
    expect(result.stderr).toContain("after a\n");
    expect(result.stderr).toContain("connected again");
    expect(result.code).toBe(0);
  });

  test("prints records as JSON, text as text and other bytes as base64", async () => {
    const gateway = await gatewayOf({
      tasks: {
        readLogs: async function* () {
          yield line("1", "text\n");
          yield {
            records: [{ stream: LogStream.STDERR, cursor: "2", data: Uint8Array.of(0xff, 0x00) }],
          };
        },
      },
    });
    const result = await runCli(["task", "logs", "-o", "ndjson", aTask(gateway).name], {
      address: gateway.address,
    });
    const records = result.stdout
      .trim()
      .split("\n")
      .map((text) => JSON.parse(text) as Record<string, unknown>);
    expect(records).toMatchObject([
      { stream: "stdout", cursor: "1", text: "text\n" },
      { stream: "stderr", cursor: "2", data: "/wA=" },
    ]);
    expect(result.code).toBe(0);
  });
});

describe("task watch", () => {
  test("prints one document for each change, resumes at its revision, and starts anew where that is too old", async () => {
    const revisions: bigint[] = [];
    const gateway = await gatewayOf({
      tasks: {
        watchTask: async function* ({ name, afterRevision }) {
          revisions.push(afterRevision);
          if (revisions.length === 1) {
            yield { task: aTask(gateway, { name, state: TaskState.QUEUED, revision: 4n }) };
            throw new Fault("DRAINING", "shutting down", { retryAfterMs: 1 });
          }
          if (revisions.length === 2) throw new Fault("REVISION_TOO_OLD", "too old");
          yield {
            task: aTask(gateway, {
              name,
              state: TaskState.FAILED,
              exitClass: ExitClass.USER_EXIT,
              exitCode: 9,
              revision: 7n,
            }),
          };
        },
      },
    });
    const result = await runCli(["task", "watch", aTask(gateway).name], {
      address: gateway.address,
    });
    expect(revisions).toEqual([0n, 4n, 0n]);
    const states = result.stdout
      .trim()
      .split("\n")
      .map((text) => (JSON.parse(text) as { state: string }).state);
    expect(states).toEqual(["TASK_STATE_QUEUED", "TASK_STATE_FAILED"]);
    expect(result.code).toBe(9);
  });
});

import type { UpdateQueueRequest } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { ExitClass, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { runCli, startCli } from "./run-cli.ts";
import { type ScriptedGateway, aTask, startGateway } from "./scripted-gateway.ts";

let gateway: ScriptedGateway;
const asked: { filter?: string; pages: number[]; queue?: UpdateQueueRequest } = { pages: [] };

beforeAll(async () => {
  gateway = await startGateway({
    tasks: {
      listTasks: async ({ filter, pageSize, pageToken }) => {
        asked.filter = filter;
        asked.pages.push(pageSize);
        const from = Number(pageToken || 0);
        const size = Math.min(pageSize || 50, 1000);
        const tasks = Array.from({ length: Math.min(size, 1500 - from) }, (_, at) =>
          aTask(gateway, { displayName: `n${from + at}`, state: TaskState.RUNNING }),
        );
        const next = from + tasks.length;
        return { tasks, nextPageToken: next < 1500 ? String(next) : "" };
      },
      getTask: async ({ name }) => {
        if (name.endsWith("0")) {
          throw new Fault("NOT_FOUND", `${name} was not found`, { hint: "fastgpu task list" });
        }
        return aTask(gateway, {
          name,
          displayName: "evil\u001b[2J",
          state: TaskState.FAILED,
          exitClass: ExitClass.USER_EXIT,
          exitCode: 3,
          cost: { currency: "USD", nanos: 1_500_000n },
        });
      },
      runTask: async () => {
        throw new Fault("INVALID_FIELD", "2 fields are wrong", {
          violations: [
            { field: "task.spec.resources.gpu.count", description: "at most 1024" },
            { field: "task.display_name", description: "at most 128 characters" },
          ],
        });
      },
    },
    nodes: {
      listGpus: async () => ({
        gpus: [
          {
            name: "nodes/node-1/gpus/gpu-1",
            model: "FastGPU Sim",
            memoryMib: 16_384n,
            simulated: true,
            state: 1,
          },
        ],
      }),
    },
    queues: {
      getQueue: async ({ name }) => ({
        name,
        weight: 1,
        models: [
          { model: "NVIDIA A100", limitGpus: 8 },
          { model: "NVIDIA H200", guaranteedGpus: 2, limitGpus: 4, heldGpus: 1 },
        ],
      }),
      updateQueue: async (request) => {
        asked.queue = request;
        return request.queue ?? {};
      },
    },
    billing: {
      getBalance: async ({ name }) => ({
        name,
        available: { currency: "USD", nanos: 100_000_000_000n },
      }),
    },
  });
});
afterAll(() => gateway.server.close(0));

const ID = `task-${"1".padStart(26, "0")}`;
const cli = (...args: string[]) => runCli(args, { address: gateway.address });

test("all of a long answer arrives through a pipe whose reader comes later", async () => {
  const cli = startCli(["task", "list", "--limit", "0", "-o", "json"], {
    ...gateway,
    through: "sh -c 'read -r first; echo \"$first\"; exec cat'",
  });
  const { stdout } = await cli.done;
  expect(stdout.length).toBeGreaterThan(200_000);
  expect(JSON.parse(stdout)).toHaveLength(1500);
});

describe("results", () => {
  test("are JSON in a pipe, the API's own", async () => {
    const { stdout, code } = await cli("task", "get", ID);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      name: `${gateway.project}/tasks/${ID}`,
      state: "TASK_STATE_FAILED",
      exitCode: 3,
      cost: { currency: "USD", nanos: "1500000" },
    });
  });

  test("are the same in YAML and NDJSON", async () => {
    const json = JSON.parse((await cli("gpu", "list", "-o", "json")).stdout) as unknown[];
    expect(parse((await cli("gpu", "list", "-o", "yaml")).stdout)).toEqual(json);
    const lines = (await cli("gpu", "list", "-o", "ndjson")).stdout.trim().split("\n");
    expect(lines.map((text) => JSON.parse(text) as unknown)).toEqual(json);
  });

  test("are tables on request, with simulated GPUs marked and no escapes of other people's names", async () => {
    expect((await cli("gpu", "list", "-o", "table")).stdout).toBe(
      "GPU    NODE    INDEX  MODEL                    MEMORY  STATE  TASK\n" +
        "gpu-1  node-1      0  FastGPU Sim (simulated)  16 GiB  IDLE   -\n",
    );
    const { stdout } = await cli("task", "get", ID, "-o", "table");
    expect(stdout).toMatch(/^state: +FAILED \(USER_EXIT 3\)$/m);
    expect(stdout).toMatch(/^cost: +0\.0015 USD$/m);
    expect(stdout).not.toContain("\u001b");
  });

  test("are colourful only where that is wanted", async () => {
    const get = (env: Record<string, string>) =>
      runCli(["task", "list", "--limit", "1", "-o", "table"], { address: gateway.address, env });
    expect((await get({ FORCE_COLOR: "1" })).stdout).toContain("\u001b[34mRUNNING");
    expect((await get({ FORCE_COLOR: "1", NO_COLOR: "1" })).stdout).not.toContain("\u001b");
    expect((await get({})).stdout).not.toContain("\u001b");
  });

  test("lists read as many pages as are needed", async () => {
    asked.pages.length = 0;
    const { stdout } = await cli("task", "list", "--limit", "0", "-q");
    expect(new Set(stdout.trim().split("\n")).size).toBe(1500);
    expect(asked.pages).toEqual([1000, 1000]);
    asked.pages.length = 0;
    await cli("task", "list", "--limit", "1200");
    expect(asked.pages).toEqual([1000, 200]);
  });

  test("options become the API's filter, quoted where they must be", async () => {
    await cli(
      "task",
      "list",
      "--state",
      "running",
      "-l",
      "team=vision",
      "--name",
      'a "b"',
      "--filter",
      "create_time > 1",
    );
    expect(asked.filter).toBe(
      'create_time > 1 AND state = RUNNING AND display_name = "a \\"b\\"" AND labels.team = vision',
    );
  });

  test("the organisation is the key's own where none is set", async () => {
    expect(JSON.parse((await cli("billing", "balance")).stdout)).toMatchObject({
      name: `${gateway.org}/balance`,
    });
  });
});

describe("refusals", () => {
  test("of the platform say what, what to try, and the request id; nothing is on stdout", async () => {
    const missing = `task-${"0".padStart(26, "0")}`;
    const { code, stdout, stderr } = await cli("task", "get", missing);
    expect([code, stdout]).toEqual([66, ""]);
    expect(stderr).toMatch(
      /^error: projects\/.* was not found\n {2}try: fastgpu task list\n {2}request id: [0-9a-f-]{36}\n$/,
    );
  });

  test("name each field", async () => {
    const { code, stderr } = await cli("task", "run", "--", "x");
    expect(code).toBe(65);
    expect(stderr).toContain("  why: task.spec.resources.gpu.count: at most 1024\n");
    expect(stderr).toContain("  why: task.display_name: at most 128 characters\n");
    expect(stderr).toContain("\n  try: fastgpu task run --help\n");
  });

  test("are JSON where JSON was asked for", async () => {
    const { stderr } = await cli("task", "run", "-o", "json", "--", "x");
    expect(JSON.parse(stderr)).toMatchObject({
      error: {
        code: "INVALID_ARGUMENT",
        reason: "INVALID_FIELD",
        fields: [{ field: "task.spec.resources.gpu.count" }, { field: "task.display_name" }],
        exitCode: 65,
      },
    });
  });

  test("of a wrong key, and of none", async () => {
    const wrong = await runCli(["task", "list"], { address: gateway.address, key: "fgpu_no" });
    expect(wrong.code).toBe(77);
    expect(wrong.stderr).toContain("the key is not known");
    const none = await runCli(["task", "list"], { env: { FASTGPU_ADDRESS: gateway.address } });
    expect(none.code).toBe(77);
    expect(none.stderr).toContain("there is no API key");
    expect(none.stderr).toContain("try: fastgpu config set --key");
  });

  test("where nothing listens: which address, from where, and what to do", async () => {
    const closed = await startGateway({});
    await closed.server.close(0);
    const { code, stderr } = await runCli(["task", "list"], { address: closed.address });
    expect(code).toBe(69);
    expect(stderr).toContain(`error: the platform at ${closed.address} cannot be reached`);
    expect(stderr).toContain("(address from: FASTGPU_ADDRESS)");
    expect(stderr).toContain("try: fastgpu start");
  });
});

describe("wrong usage", () => {
  test.each([
    [["tsak", "list"], "unknown command 'tsak'", "try: task"],
    [["task", "lst"], "unknown command 'lst'", "try: list"],
    [["task", "run", "--gpsu", "1"], "unknown option '--gpsu'", "try: --gpus"],
    [
      ["task", "run", "--gpus", "many", "--", "x"],
      "A whole number from 0 to 1024",
      "fastgpu task run --help",
    ],
    [["task", "run", "--memory", "16GB", "--", "x"], "16Gi", "fastgpu task run --help"],
    [
      ["task", "run", "--simulated", "maybe", "--", "x"],
      "Allowed choices are allow, forbid",
      "--help",
    ],
    [["task", "run"], "there is nothing to run", "fastgpu task run --gpus 1 -- CMD"],
    [["task", "get"], "missing required argument 'task'", "fastgpu task get --help"],
    [["task", "get", "task-1"], '"task-1" is not the id of a task', "fastgpu task list"],
    [["task", "list", "--state", "runing"], '"runing" is not a state of tasks', "--state running"],
    [["task"], "fastgpu task needs a subcommand", "fastgpu task --help"],
    [["config", "use", "nowhere"], 'there is no context "nowhere"', "fastgpu config list"],
    [["help", "nothing"], 'there is no command "nothing"', "fastgpu --help"],
  ])("%j", async (args, message, hint) => {
    const { code, stdout, stderr } = await cli(...args);
    expect([64, 78]).toContain(code);
    expect(stdout).toBe("");
    expect(stderr).toContain(message);
    expect(stderr).toContain(hint);
    expect(stderr).not.toContain("    at ");
  });

  test("a spec file is refused with its name, the place and the nearest word", async () => {
    const { code, stderr } = await runCli(["task", "run", "-f", "-"], {
      address: gateway.address,
      input: "spec: {proces: {command: [x]}}",
    });
    expect(code).toBe(64);
    expect(stderr).toContain("error: -: spec.proces: there is no such field");
    expect(stderr).toContain("try: process instead of proces");
  });
});

describe("help", () => {
  test.each([[[]], [["--help"]], [["help"]]])("%j shows every group", async (args) => {
    const { code, stdout } = await runCli(args);
    expect(code).toBe(0);
    for (const group of [
      "config",
      "task",
      "node",
      "gpu",
      "billing",
      "data",
      "org",
      "project",
      "key",
    ]) {
      expect(stdout).toMatch(new RegExp(`^  ${group} `, "m"));
    }
  });

  test("knows the exit codes, the environment and every command", async () => {
    expect((await runCli(["help", "exit-codes"])).stdout).toContain("task's own code");
    expect((await runCli(["help", "environment"])).stdout).toContain("FASTGPU_ADDRESS");
    expect((await runCli(["help", "task", "run"])).stdout).toContain("--max-runtime");
  });
});

describe("queue set", () => {
  test("changes the named models and leaves the others, of a user's queue too", async () => {
    const set = ["queue", "set", "--user", "key-1"];
    const { code } = await cli(
      ...set,
      "--model-limit",
      "NVIDIA H200=6",
      "--model-limit",
      "NVIDIA A100=none",
    );
    expect(code).toBe(0);
    expect(asked.queue?.updateMask?.paths).toEqual(["models"]);
    expect(asked.queue?.queue).toMatchObject({
      name: `${gateway.project}/users/key-1/queue`,
      models: [{ model: "NVIDIA H200", guaranteedGpus: 2, limitGpus: 6 }],
    });
  });

  test("takes a bare id for the queue, and refuses what names none before it asks", async () => {
    const project = gateway.project.split("/").at(-1) ?? "";
    await cli("queue", "set", project, "--weight", "3");
    expect(asked.queue?.queue).toMatchObject({ name: `${gateway.project}/queue`, weight: 3 });
    await cli("queue", "set", gateway.org.split("/").at(-1) ?? "", "--weight", "2");
    expect(asked.queue?.queue?.name).toBe(`${gateway.org}/queue`);
    const { stderr, code } = await cli("queue", "get", "mine");
    expect(code).toBe(64);
    expect(stderr).toContain('"mine" names no queue\n');
    expect(stderr).toContain("\n  try: fastgpu queue list");
    const large = await cli("queue", "set", "--limit", "99999999999");
    expect(large.stderr).toContain("A whole number from 0 to 1000000 is wanted.");
  });

  test("refuses a model without a number, and nothing at all", async () => {
    const { stderr, code } = await cli("queue", "set", "--model-limit", "H200");
    expect(code).toBe(64);
    expect(stderr).toContain('MODEL=GPUS is wanted, for example "NVIDIA H200=4"');
    expect((await cli("queue", "set")).stderr).toContain("there is nothing to change");
  });
});

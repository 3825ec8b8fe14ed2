import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { tmpdir } from "node:os";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  ExitClass,
  LogStream,
  TaskSchema,
  TaskState,
  type Task,
  type TaskSpecSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describeFailures } from "@fastgpu/auditor/audit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endOf, settledAudit, stateName, testPlatform, type TestPlatform } from "./harness.ts";

const image = "localhost/busybox:latest";
const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Why container tasks cannot run here; undefined where they can. */
function whyNot(): string | undefined {
  if (spawnSync("podman", ["--version"]).status !== 0) return "no podman here";
  const made = spawnSync(process.execPath, [`${root}/scripts/busybox-image.mjs`, image], {
    encoding: "utf8",
  });
  return made.status === 0 ? undefined : made.stderr.trim();
}

const reason = whyNot();
if (reason !== undefined) console.log(`container tasks are not tested: ${reason}`);

test.runIf(process.env["FASTGPU_REQUIRE_CONTAINERS"] === "1")("containers can run here", () => {
  expect(reason).toBeUndefined();
});

describe.skipIf(reason !== undefined)("a task in a container, through the whole platform", () => {
  let p: TestPlatform;
  beforeAll(async () => {
    p = await testPlatform({ runtime: "container" });
  });
  afterAll(async () => {
    const report = await settledAudit(p);
    await p[Symbol.asyncDispose]();
    expect(describeFailures(report)).toBe("");
  });

  async function run(
    command: string,
    over: MessageInitShape<typeof TaskSpecSchema> = {},
    of = image,
  ): Promise<Task> {
    const task = create(TaskSchema, {
      spec: {
        runtime: { case: "container", value: { image: of, command: ["sh", "-c", command] } },
        resources: { cpuMillis: 100n, memoryMib: 64n, gpu: { count: 1 } },
        ...over,
      } as MessageInitShape<typeof TaskSpecSchema>,
    });
    return p.tasks.runTask({ parent: p.parent, task });
  }

  /** Waits until its log says so: it runs, and is past that line. */
  async function says(name: string, text: string): Promise<void> {
    let log = "";
    for await (const { records } of p.tasks.readLogs({ name, follow: true })) {
      for (const { data } of records) log += Buffer.from(data).toString();
      if (log.includes(text)) return;
    }
    throw new Error(`${name} ended without saying ${text}: ${log}`);
  }

  async function logOf(name: string): Promise<{ out: string; err: string }> {
    const log = { out: "", err: "" };
    for await (const { records } of p.tasks.readLogs({ name })) {
      for (const { stream, data } of records) {
        log[stream === LogStream.STDERR ? "err" : "out"] += Buffer.from(data).toString();
      }
    }
    return log;
  }

  /** Names of containers that the engine has for a task's attempts. */
  async function containersOf(name: string): Promise<string[]> {
    const { attempts } = await p.tasks.listAttempts({ parent: name });
    expect(attempts.length).toBeGreaterThan(0);
    const listed = execFileSync("podman", ["ps", "-a", "--format", "{{.Names}}"], {
      encoding: "utf8",
    });
    const ids = attempts.map((attempt) => attempt.name.split("/").at(-1) ?? "");
    return listed.split("\n").filter((container) => ids.some((id) => container.includes(id)));
  }

  test("runs in its image, keeps outputs and log with both streams apart, and leaves no container", async () => {
    const { name } = await run(
      'test ! -e /etc/debian_version && busybox | head -n 1 | cut -d " " -f 1; echo warned >&2; ' +
        'echo "GPUs: $FASTGPU_GPU_COUNT, simulated: $FASTGPU_GPU_SIMULATED"; ' +
        'mkdir "$FASTGPU_OUTPUT_DIR/deep"; echo 42 > "$FASTGPU_OUTPUT_DIR/deep/answer.txt"',
    );
    const end = await endOf(p, name);
    expect(stateName(end), end.statusMessage).toBe("TASK_STATE_SUCCEEDED");
    expect(end.exitCode).toBe(0);
    expect(end.gpus).toMatchObject([{ simulated: true }]);
    const sha256 = createHash("sha256").update("42\n").digest("hex");
    expect(end.result?.files).toMatchObject([{ path: "deep/answer.txt", sizeBytes: 3n, sha256 }]);
    expect(await logOf(name)).toEqual({
      out: "BusyBox\nGPUs: 1, simulated: 1\n",
      err: "warned\n",
    });
    await expect.poll(() => containersOf(name), { timeout: 30_000 }).toEqual([]);
  }, 120_000);

  test("that fails tells its exit code", async () => {
    const { name } = await run("echo no >&2; exit 7");
    expect(await endOf(p, name)).toMatchObject({
      state: TaskState.FAILED,
      exitClass: ExitClass.USER_EXIT,
      exitCode: 7,
    });
    expect((await logOf(name)).err).toBe("no\n");
  }, 120_000);

  test("of an image that nobody has is rejected at once, with the way to bring it here", async () => {
    const { name } = await run("true", {}, "localhost/no-such-image:latest");
    const end = await endOf(p, name);
    expect(end).toMatchObject({
      state: TaskState.FAILED,
      exitClass: ExitClass.REJECTED,
      attemptCount: 1,
    });
    expect(end.statusMessage).toContain("localhost/no-such-image:latest");
    expect(end.statusMessage).toContain("fastgpu image import");
  }, 120_000);

  test("that is cancelled gets its signal and its time to save", async () => {
    const { name } = await run(
      'trap "echo saved; exit 0" TERM; echo up; while :; do sleep 0.1; done',
    );
    await says(name, "up");
    await p.tasks.cancelTask({ name, reason: "enough" });
    expect(await endOf(p, name)).toMatchObject({
      state: TaskState.CANCELLED,
      exitClass: ExitClass.CANCELLED,
    });
    expect((await logOf(name)).out).toBe("up\nsaved\n");
  }, 120_000);

  test("that ignores its signal is killed after its grace", async () => {
    const { name } = await run('trap "echo ignored" TERM; echo up; while :; do sleep 0.1; done', {
      stopGrace: durationFromMs(1_000),
    });
    await says(name, "up");
    await p.tasks.cancelTask({ name });
    expect((await endOf(p, name)).state).toBe(TaskState.CANCELLED);
    expect((await logOf(name)).out).toBe("up\nignored\n");
    await expect.poll(() => containersOf(name), { timeout: 30_000 }).toEqual([]);
  }, 120_000);

  test("runs from the command line, which shows its output and ends with its code", async () => {
    const program = `${root}/clients/cli/bin/fastgpu.mjs`;
    const args = ["task", "run", "--gpus", "1", "--image", image, "--", "sh", "-c"];
    const child = spawn(process.execPath, [program, ...args, "echo hello; echo oh >&2; exit 3"], {
      env: {
        PATH: process.env["PATH"],
        HOME: p.directory,
        TMPDIR: tmpdir(),
        FASTGPU_ADDRESS: p.platform.address,
        FASTGPU_API_KEY: p.key,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout.on("data", (bytes: Buffer) => (out += bytes.toString()));
    child.stderr.on("data", (bytes: Buffer) => (err += bytes.toString()));
    const code = await new Promise((resolve) => child.once("close", resolve));
    expect(code, err).toBe(3);
    expect(out).toContain("hello\n");
    expect(err).toContain("oh\n");
  }, 120_000);
});

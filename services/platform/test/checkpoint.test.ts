import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { expect, test } from "vitest";
import { endOf, shortLeases, stateName, testPlatform, type TestPlatform } from "./harness.ts";

const digits = fileURLToPath(new URL("../../../examples/digits", import.meta.url));
const training = ["src/train.mjs", "--epochs", "60"];

/** The keeper of a worker, by its arguments. */
function keeperOf(directory: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const isKeeper = args.some((arg) => /keeper(\/main\.ts|\.js)$/.test(arg));
      if (isKeeper && args.includes(directory)) return Number(pid);
    } catch {
      // Gone meanwhile.
    }
  }
  throw new Error(`no keeper for ${directory}`);
}

async function until(check: () => boolean, timeoutMs = 60_000): Promise<void> {
  const limit = performance.now() + timeoutMs;
  while (!check()) {
    if (performance.now() > limit) throw new Error("it never came");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function logText(p: TestPlatform, name: string): Promise<string> {
  let text = "";
  for await (const { records } of p.tasks.readLogs({ name })) {
    for (const record of records) text += Buffer.from(record.data).toString();
  }
  return text;
}

/** SHA-256 of the model that a training without any interruption leaves. */
async function unbrokenModel(output: string): Promise<string> {
  const env = { PATH: process.env["PATH"], FASTGPU_OUTPUT_DIR: output };
  await promisify(execFile)(process.execPath, training, { cwd: digits, env });
  return createHash("sha256")
    .update(await readFile(join(output, "model.json")))
    .digest("hex");
}

async function modelOf(p: TestPlatform, digest: string): Promise<string | undefined> {
  const channel = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(p.key),
  });
  const artifacts = createClient(ArtifactService, channel);
  const manifest = await artifacts.getManifest({ parent: p.parent, digest });
  channel.close();
  return manifest.files.find((file) => file.path === "model.json")?.sha256;
}

test("a training whose worker and keeper are killed goes on from its checkpoint, to the same bytes", async () => {
  await using p = await testPlatform({ split: true, env: shortLeases });
  const task = create(TaskSchema, {
    spec: {
      runtime: {
        case: "process",
        value: { command: [process.execPath, ...training], workingDir: digits },
      },
      resources: { cpuMillis: 1_000n, memoryMib: 1_024n },
    },
  });
  const { name } = await p.tasks.runTask({ parent: p.parent, task });
  const worker = join(p.platform.dataDir, "worker-1");
  const folder = join(worker, "checkpoints", name.split("/").at(-1) ?? "");
  // Its first epoch is over and saved.
  await until(() => existsSync(join(folder, "checkpoint.json")));
  process.kill(p.platform.pids().get("worker-1") ?? 0, "SIGKILL");
  process.kill(keeperOf(worker), "SIGKILL");

  const end = await endOf(p, name, 120_000);
  expect(stateName(end), end.statusMessage).toBe("TASK_STATE_SUCCEEDED");
  expect(end.attemptCount).toBe(2);
  const { attempts } = await p.tasks.listAttempts({ parent: name });
  expect(attempts.length).toBe(2);
  expect(await logText(p, name)).toContain("resumed from the checkpoint");
  const model = await modelOf(p, end.result?.manifestDigest ?? "");
  expect(model).toBe(await unbrokenModel(join(p.directory, "unbroken")));
  // The task has ended for good: nothing of it stays on the worker.
  await until(() => !existsSync(folder));
}, 240_000);

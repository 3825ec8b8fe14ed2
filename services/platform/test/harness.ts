import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  TaskSchema,
  TaskSpecSchema,
  TaskState,
  TaskStateSchema,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { freePort } from "@fastgpu/lifecycle/child";
import { audit, openAuditor, type AuditReport } from "@fastgpu/auditor/audit";
import { quiet } from "@fastgpu/testkit/log";
import { clientsAt, type AllClients } from "./clients.ts";
import { startPlatform, type Platform, type PlatformOptions } from "../src/platform.ts";

/** A platform of a test's own, with clients of its first tenant. */
export interface TestPlatform extends Clients, AsyncDisposable {
  readonly platform: Platform;
  /** Where workers dial the scheduler. */
  readonly workersAddress: string;
  readonly directory: string;
  /** Stops it, as a crash of everything does or cleanly, and starts it again on the same data. */
  restart(): Promise<void>;
}

/** Short leases, so that what a lost node takes is given out again within seconds. */
export const shortLeases = {
  FASTGPU_SCHEDULER__LEASE_TTL_MS: "3000",
  FASTGPU_SCHEDULER__SKEW_MS: "500",
  FASTGPU_SCHEDULER__MARGIN_MS: "500",
  FASTGPU_WORKER__LEASE_MARGIN_MS: "500",
};

/**
 * A directory of a test's own that others may pass through: behind a closed one, root's database would be kept
 * elsewhere, and stay there when the test is over.
 */
export async function openDirectory(prefix: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), prefix));
  await chmod(directory, 0o755);
  return directory;
}

/** Starts a platform on free ports with its data in a directory of its own. */
export async function testPlatform(
  options: Omit<PlatformOptions, "dataDir" | "ports"> = {},
): Promise<TestPlatform> {
  const directory = await openDirectory("fastgpu-platform-");
  const [gateway, workers, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
  const start = () =>
    startPlatform({
      simulatedGpus: 2,
      runtime: "process",
      logLevel: "error",
      ...options,
      env: { PATH: process.env["PATH"], HOME: directory, ...options.env },
      dataDir: join(directory, "data"),
      ports: { gateway, workers, metrics },
    });
  let platform = await start();
  const clients = openClients(platform);
  return {
    ...clients,
    get platform() {
      return platform;
    },
    workersAddress: `127.0.0.1:${workers}`,
    directory,
    async restart() {
      await platform.stop();
      platform = await start();
    },
    async [Symbol.asyncDispose]() {
      clients.close();
      await platform.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** What a test must know of a platform to use it, wherever that runs. */
export type Reachable = Pick<
  Platform,
  "address" | "firstKey" | "project" | "org" | "auditorUrl" | "dataDir"
>;

/** Clients of a platform's first tenant. */
export interface Clients extends Pick<AllClients, "tasks" | "nodes" | "billing"> {
  /** `projects/{project}` */
  readonly parent: string;
  readonly key: string;
}

/** Clients with the key of the first start; they outlive the platform's restarts. */
export function openClients(
  platform: Pick<Reachable, "address" | "firstKey" | "project">,
): Clients & { close(): void } {
  const key = platform.firstKey ?? "";
  return { ...clientsAt(platform.address, key), parent: `projects/${platform.project}`, key };
}

/** A task of a shell script. */
export function script(
  text: string,
  more: { gpus?: number; array?: number; env?: Record<string, string> } = {},
): Task {
  const spec: MessageInitShape<typeof TaskSchema>["spec"] = {
    runtime: { case: "process", value: { command: ["sh", "-c", text] } },
    env: more.env ?? {},
    resources: {
      cpuMillis: 100n,
      memoryMib: 64n,
      ...(more.gpus === undefined ? {} : { gpu: { count: more.gpus } }),
    },
    ...(more.array === undefined ? {} : { array: { count: more.array } }),
  };
  return create(TaskSchema, { spec });
}

/** The same task with other fields in its spec. */
export function withSpec(task: Task, over: MessageInitShape<typeof TaskSpecSchema>): Task {
  // A message is taken as it is; only plain fields are made into messages.
  const { $typeName: _type, $unknown: _unknown, ...fields } = create(TaskSpecSchema, task.spec);
  return create(TaskSchema, { labels: task.labels, spec: { ...fields, ...over } as typeof over });
}

/** The name of a task's state, for messages. */
export function stateName(task: Task): string {
  return TaskStateSchema.value[task.state]?.name ?? String(task.state);
}

const terminal: readonly TaskState[] = [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED];

/** Follows a task to its end, across lost connections. */
export async function endOf(
  p: Pick<Clients, "tasks">,
  name: string,
  timeoutMs = 60_000,
): Promise<Task> {
  const signal = AbortSignal.timeout(timeoutMs);
  let last: Task | undefined;
  while (!signal.aborted) {
    try {
      const afterRevision = last?.revision ?? 0n;
      for await (const { task } of p.tasks.watchTask({ name, afterRevision }, { signal })) {
        last = task ?? last;
      }
      if (last !== undefined && terminal.includes(last.state)) return last;
    } catch {
      // Whatever was killed comes back: resume from the last revision.
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(
    `${name} has not ended: ${last === undefined ? "unread" : stateName(last)} ${last?.statusMessage}`,
  );
}

/** The auditor's verdict once billing has caught up with what has ended. */
export async function settledAudit(
  p: Pick<Clients, "billing"> & { readonly platform: Pick<Reachable, "auditorUrl" | "org"> },
  timeoutMs = 30_000,
): Promise<AuditReport> {
  await using auditor = openAuditor({ url: p.platform.auditorUrl, log: quiet });
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const report = await audit(auditor);
    const balance = await p.billing.getBalance({ name: `organizations/${p.platform.org}/balance` });
    const settled = report.ok && (balance.held?.nanos ?? 0n) === 0n;
    if (settled || performance.now() > deadline) return report;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** Lines that scripts appended to a file. */
export async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

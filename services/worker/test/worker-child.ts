import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Report } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { Peer } from "./peer.ts";

const program = fileURLToPath(new URL("./worker-process.ts", import.meta.url));

/** A worker program, to be killed. */
export interface TestWorker extends AsyncDisposable {
  readonly directory: string;
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<void>;
}

type Spec = Exclude<MessageInitShape<typeof TaskSpecSchema>, { $typeName: string }>;

/** A directory for a new worker. */
export function freshDirectory(): string {
  return mkdtempSync(join(tmpdir(), "fastgpu-w-"));
}

/** A real worker process against the peer. */
export async function startWorker(
  peer: Peer,
  directory = freshDirectory(),
  more: Record<string, unknown> = {},
): Promise<TestWorker> {
  const { address } = peer;
  const config = {
    directory,
    name: "test",
    scheduler: address,
    auth: address,
    storage: address,
    joinToken: "token",
    runtime: "process",
    realGpus: false,
    keeperIdleMs: 500,
    ...more,
  };
  const child = spawn(process.execPath, [program, JSON.stringify(config)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`the worker ended with ${code}`)));
  });
  const kill = async (signal: "SIGKILL" | "SIGTERM"): Promise<void> => {
    child.kill(signal);
    await gone;
  };
  return { directory, kill, [Symbol.asyncDispose]: () => kill("SIGKILL") };
}

/** A process task of this script. */
export const shell = (script: string): Spec => ({
  runtime: { case: "process", value: { command: ["/bin/sh", "-c", script] } },
});

/** The end that a report tells. */
export function endOf(report: Report) {
  if (report.event.case !== "ended") throw new Error("not an end");
  return report.event.value;
}

/** Resolves once the file is there, with this content where one is given. */
export async function waitForFile(path: string, content?: string): Promise<void> {
  const isThere = (): boolean =>
    existsSync(path) && (content === undefined || readFileSync(path, "utf8") === content);
  while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 10));
}

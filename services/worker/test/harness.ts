import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bootMs } from "../src/boot-time.ts";
import { type KeeperClient, createKeeperClient } from "../src/keeper/client.ts";
import {
  type WorkerFiles,
  attemptFiles,
  prepareWorkerFiles,
  workerFiles,
} from "../src/keeper/files.ts";
import { readLogRange } from "../src/log/reader.ts";
import type { Launch, Outcome, Runtime, RuntimeEvent } from "../src/runtime/port.ts";
import { createProcessRuntime } from "../src/runtime/process/runtime.ts";

/** A data directory of one worker, made for one test. */
export function makeFiles(): WorkerFiles {
  const files = workerFiles(mkdtempSync(join(tmpdir(), "fastgpu-worker-")));
  prepareWorkerFiles(files);
  return files;
}

/** A runtime whose events can be waited for by name. */
export interface TestRuntime {
  readonly files: WorkerFiles;
  readonly runtime: Runtime;
  readonly keeper: KeeperClient;
  readonly events: RuntimeEvent[];
  exit(name: string): Promise<Outcome>;
  /** Resolves at the first event that `check` accepts, past or future. */
  seen(check: (event: RuntimeEvent) => boolean): Promise<RuntimeEvent>;
}

/** Watches a runtime's events. */
export function observe(files: WorkerFiles, keeper: KeeperClient, runtime: Runtime): TestRuntime {
  const events: RuntimeEvent[] = [];
  const waiting = new Set<() => void>();
  runtime.subscribe((event) => {
    events.push(event);
    for (const check of waiting) check();
  });
  const seen = (accept: (event: RuntimeEvent) => boolean): Promise<RuntimeEvent> =>
    new Promise((resolve) => {
      const check = (): void => {
        const event = events.find(accept);
        if (event === undefined) return;
        waiting.delete(check);
        resolve(event);
      };
      waiting.add(check);
      check();
    });
  return {
    files,
    runtime,
    keeper,
    events,
    seen,
    async exit(name) {
      const event = await seen((e) => e.kind === "exited" && e.name === name);
      if (event.kind !== "exited") throw new Error("not an exit");
      return event.outcome;
    },
  };
}

/** A process runtime on `files`, with a keeper that leaves soon after its last attempt. */
export function makeProcessRuntime(
  files = makeFiles(),
  more: { controlGroups?: "auto" | "off" } = {},
): TestRuntime {
  const keeper = createKeeperClient({ files, idleMs: 1_000, ...more });
  return observe(files, keeper, createProcessRuntime({ files, keeper }));
}

/** A launch with harmless defaults. */
export function launchOf(name: string, command: string[], more: Partial<Launch> = {}): Launch {
  return {
    name,
    image: undefined,
    command,
    env: { PATH: "/usr/bin:/bin" },
    workdir: undefined,
    checkpoints: undefined,
    limits: { cpuMillis: 0, memoryMib: 0, pids: 0 },
    devices: [],
    array: undefined,
    network: "none",
    timeoutMs: 0,
    stopSignal: "SIGTERM",
    graceMs: 5_000,
    ...more,
  };
}

/** A deadline that no test reaches. */
export const farAhead = (): number => bootMs() + 600_000;

/** The log of an attempt as records of text. */
export async function logOf(
  files: WorkerFiles,
  name: string,
): Promise<{ stream: string; element: number | undefined; text: string }[]> {
  const range = await readLogRange(attemptFiles(files, name).log, 0, 1e9);
  return range.frames.map(({ record }) => ({
    stream: record.stream,
    element: record.element,
    text: Buffer.from(record.data).toString(),
  }));
}

/** Waits until the log of an attempt holds `text`. */
export async function logHas(test: TestRuntime, name: string, text: string): Promise<void> {
  for (;;) {
    const log = await logOf(test.files, name);
    if (log.some((record) => record.text.includes(text))) return;
    const count = test.events.length;
    await test.seen((event) => event.kind === "log" && test.events.indexOf(event) >= count);
  }
}

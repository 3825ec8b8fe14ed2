import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { KeeperClient } from "../../keeper/client.ts";
import {
  type AttemptFiles,
  type WorkerFiles,
  attemptFiles,
  attemptNames,
  readLaunch,
  readOutcome,
  writeJson,
} from "../../keeper/files.ts";
import { recordLost } from "../../keeper/launcher.ts";
import type { KnownAttempt, Launch, Runtime, RuntimeEvent } from "../port.ts";

/** Runs attempts as sandboxed processes under the keeper. */
export function createProcessRuntime(options: {
  files: WorkerFiles;
  keeper: KeeperClient;
}): Runtime {
  const { files, keeper } = options;
  const listeners: ((event: RuntimeEvent) => void)[] = [];
  const mine = new Set<string>();
  const emit = (event: RuntimeEvent): void => {
    if (event.kind === "exited") mine.delete(event.name);
    for (const listener of listeners) listener(event);
  };
  keeper.onEvent((event) => {
    if (mine.has(event.name)) emit(event);
  });
  keeper.onLost(() => {
    void settleLost().catch(() => undefined);
  });
  /** After the line broke: what the keeper still has goes on, the rest ended with it. */
  const settleLost = async (): Promise<void> => {
    if (mine.size === 0) return;
    for (const known of await list()) {
      if (known.outcome !== undefined && mine.has(known.name)) {
        emit({ kind: "exited", name: known.name, outcome: known.outcome });
      }
    }
  };
  const list = async (): Promise<KnownAttempt[]> => {
    const names = attemptNames(files).filter((name) => {
      const launch = readLaunch(attemptFiles(files, name));
      return launch !== undefined && launch.image === undefined;
    });
    if (names.length === 0) return [];
    const reply = await keeper.askIfAlive({ op: "list" }).catch(() => undefined);
    const live = new Set(reply?.kind === "list" ? reply.live : []);
    return Promise.all(
      names.map(async (name) => {
        const own = attemptFiles(files, name);
        // Read after the list: an attempt that ended in between has its exit file.
        if (live.has(name) && readOutcome(own) === undefined) {
          mine.add(name);
          return { name, outcome: undefined };
        }
        return { name, outcome: await recordLost(own) };
      }),
    );
  };
  return {
    kind: "process",
    async start(launch: Launch, deadlineBootMs: number) {
      const own = attemptFiles(files, launch.name);
      mkdirSync(own.dir, { recursive: true, mode: 0o700 });
      if (readLaunch(own) === undefined) writeJson(own.launch, withPaths(launch, own));
      mine.add(launch.name);
      const reply = await keeper.ask({
        op: "start",
        name: launch.name,
        killAtBootMs: deadlineBootMs,
      });
      if (reply.kind !== "start") throw new Error(`unexpected answer ${reply.kind}`);
      if (reply.start.kind === "refused") mine.delete(launch.name);
      const outcome = readOutcome(own);
      // Started by an earlier call and over since: nobody will say so again.
      if (outcome !== undefined && mine.has(launch.name)) {
        setImmediate(() => emit({ kind: "exited", name: launch.name, outcome }));
      }
      return reply.start;
    },
    async stop(name, request) {
      const reply = await keeper.askIfAlive({ op: "stop", name, request });
      return reply?.kind === "stop" && reply.delivered;
    },
    setDeadlines: (deadlines) => keeper.setDeadlines(deadlines),
    list,
    workFolder(name) {
      const { work } = attemptFiles(files, name);
      return { host: work, inside: work };
    },
    remove(name) {
      mine.delete(name);
      keeper.forget(name);
      rmSync(attemptFiles(files, name).dir, { recursive: true, force: true });
      return Promise.resolve();
    },
    subscribe: (listener) => void listeners.push(listener),
    [Symbol.asyncDispose]() {
      keeper.close();
      return Promise.resolve();
    },
  };
}

/** The launch with the variables that name this attempt's own folders; the task's own settings win. */
function withPaths(launch: Launch, own: AttemptFiles): Launch {
  const env = {
    HOME: own.work,
    TMPDIR: own.tmp,
    ...(launch.checkpoints === undefined ? {} : { FASTGPU_CHECKPOINT_DIR: launch.checkpoints }),
    FASTGPU_PROGRESS_FD: "3",
    FASTGPU_PROGRESS_FILE: join(own.tmp, "progress"),
    ...launch.env,
  };
  return { ...launch, env };
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bootMs } from "../boot-time.ts";
import type { ContainerView, Engine } from "../runtime/container/engine.ts";
import { openEngine } from "../runtime/container/open.ts";
import { countOf } from "../ranges.ts";
import type { Launch, Outcome } from "../runtime/port.ts";
import { parseElementRecord } from "./array.ts";
import { followEngineLog } from "./container-log.ts";
import { wasOomKilled } from "./oom.ts";
import { watchProgressFile } from "./progress-file.ts";
import {
  type LiveRun,
  type AnyRunContext,
  createStopper,
  leaseWarningMs,
  maxTimerMs,
} from "./run.ts";
import type { EngineAddress } from "./wire.ts";

type Watched =
  | { readonly kind: "launched"; readonly run: LiveRun; readonly isolation: readonly string[] }
  | { readonly kind: "refused"; readonly exitClass: "start_failed"; readonly message: string };

/** Keeps a running container: its log, its deadline, its exit. The engine keeps its processes. */
export async function watchContainer(
  context: AnyRunContext,
  address: EngineAddress,
): Promise<Watched> {
  const { launch, files } = context;
  const engine = openEngine(address);
  const view = await engine.inspect(launch.name);
  if (view === undefined) {
    return { kind: "refused", exitClass: "start_failed", message: "the container is gone" };
  }
  const copying = followLog(context, engine);
  const progress = watchProgressFile(join(files.dir, "io", "progress"), context.onProgress);
  const stopper = createStopper({
    signal(signal) {
      void engine.signal(launch.name, signal).catch(() => undefined);
      return true;
    },
    kill: () => void killHard(engine, launch.name),
  });
  const limitMs = timeLimitMs(launch);
  const timer =
    limitMs === 0
      ? undefined
      : setTimeout(() => {
          const how = { signal: launch.stopSignal, graceMs: launch.graceMs };
          stopper.begin("timeout", how);
        }, limitMs);
  const finish = async (): Promise<Outcome> => {
    const exit = await waitForExit(engine, launch.name);
    stopper.end();
    clearTimeout(timer);
    await copying.finish();
    progress.close();
    const oom = wasOomKilled(view, exit);
    engine[Symbol.dispose]();
    return {
      cause: exit === undefined ? "lost" : (stopper.cause ?? "exit"),
      exitCode: exit?.exitCode,
      oom,
      stopReason: stopper.reason,
      message: exit === undefined ? "the container is gone" : "",
      endedBootMs: bootMs(),
      elements:
        launch.array === undefined ? undefined : readElements(join(files.dir, "io", "elements")),
    };
  };
  return {
    kind: "launched",
    isolation: ["container", address.kind],
    run: {
      pid: 0,
      isolation: ["container", address.kind],
      stop: (request) => stopper.begin("stop", request),
      expire: (soon) => {
        stopper.begin("lease", { signal: launch.stopSignal, graceMs: soon ? leaseWarningMs : 0 });
      },
      done: finish(),
    },
  };
}

/** The limit is each element's: a range has it once for every turn of its lanes. */
function timeLimitMs({ timeoutMs, array }: Launch): number {
  if (array === undefined) return timeoutMs;
  const turns = Math.ceil(countOf(array.ranges) / Math.max(1, array.slots));
  return Math.min(maxTimerMs, timeoutMs * turns);
}

/** An engine that has not answered for this long is gone, and with it what we know of its containers. */
const unreachableMs = 600_000;

/** A kill that must work even where the engine is restarting. */
async function killHard(engine: Engine, name: string): Promise<void> {
  const untilMs = performance.now() + unreachableMs;
  while (performance.now() < untilMs) {
    try {
      const view = await engine.inspect(name);
      if (view === undefined || view.state === "ended") return;
      await engine.signal(name, "SIGKILL");
    } catch {
      // The engine does not answer right now.
    }
    await sleep(100);
  }
}

/** The end of the container, through restarts of the engine; undefined where container or engine are gone. */
async function waitForExit(engine: Engine, name: string): Promise<ContainerView | undefined> {
  const never = new AbortController().signal;
  for (let answeredMs = performance.now(); performance.now() - answeredMs < unreachableMs;) {
    try {
      await engine.wait(name, never);
    } catch {
      // The engine went away, or the container did.
    }
    try {
      const view = await engine.inspect(name);
      if (view === undefined || view.state === "ended") return view;
      answeredMs = performance.now();
    } catch {
      // Asked again below.
    }
    await sleep(100);
  }
  return undefined;
}

function followLog(context: AnyRunContext, engine: Engine): { finish(): Promise<void> } {
  const { log, files } = context;
  if (engine.readLog !== undefined) return followKept(context, engine.readLog);
  const path = join(files.dir, "engine.log");
  const follower = followEngineLog({ path, log, onLog: context.onLog });
  return {
    finish() {
      follower.finish();
      return Promise.resolve();
    },
  };
}

/** Follows a log that the engine keeps, through restarts of the engine; the last pass gets what is left. */
function followKept(
  context: AnyRunContext,
  readLog: NonNullable<Engine["readLog"]>,
): { finish(): Promise<void> } {
  const { log, launch } = context;
  const stop = new AbortController();
  const pass = (follow: boolean): Promise<void> => {
    // Microseconds since the epoch fit a double; finer differences only matter within one write.
    const sinceNs = BigInt(log.sourceEnd + 1) * 1_000n - 1n;
    const signal = follow ? stop.signal : AbortSignal.timeout(10_000);
    return readLog({ name: launch.name, sinceNs, follow, signal }, (stream, timeNs, data) => {
      const sourceEnd = Number(timeNs / 1_000n);
      log.append({ stream, timeMs: Number(timeNs / 1_000_000n), sourceEnd, data });
      context.onLog();
    }).catch(() => undefined);
  };
  const following = (async () => {
    while (!stop.signal.aborted) {
      await pass(true);
      await sleep(50);
    }
  })();
  return {
    async finish() {
      stop.abort();
      await following;
      await pass(false);
    },
  };
}

function readElements(path: string): ReturnType<typeof parseElementRecord> {
  try {
    return parseElementRecord(readFileSync(path, "utf8"));
  } catch {
    return parseElementRecord("");
  }
}

import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { bootId, bootMs } from "../boot-time.ts";
import { openLogWriter } from "../log/writer.ts";
import type { Launch, Outcome, RuntimeEvent, StartResult } from "../runtime/port.ts";
import { parseElementRecord, startArray } from "./array.ts";
import { findCgroupHost, removeLeft } from "./cgroup.ts";
import {
  type AttemptFiles,
  type Started,
  type WorkerFiles,
  processStart,
  readLaunch,
  readOutcome,
  readStarted,
  writeJson,
} from "./files.ts";
import { sweep } from "./group.ts";
import { watchMemory } from "./memory-watch.ts";
import { createPipePool } from "./pipes.ts";
import type { AnyRunContext, LiveRun, RunContext } from "./run.ts";
import { resolveProgram } from "./sandbox.ts";
import { createSandboxPool } from "./sandboxes.ts";
import { startSingle } from "./single.ts";
import type { EngineAddress } from "./wire.ts";

type ProcessRun = (context: AnyRunContext) => Promise<Launched & { cgroups?: readonly string[] }>;
type Refused = Extract<StartResult, { kind: "refused" }>;
type Launched =
  | { readonly kind: "launched"; readonly run: LiveRun; readonly isolation: readonly string[] }
  | Refused;

/** Turns a launch file into a running attempt and its end into an exit file. */
export interface Launcher {
  /** What is already known of an attempt, so that starting twice starts once. */
  known(
    files: AttemptFiles,
    live: boolean,
    op: "start" | "watch",
  ): Promise<StartResult | undefined>;
  start(name: string, files: AttemptFiles): Promise<Launched>;
  watch(name: string, files: AttemptFiles, engine: EngineAddress): Promise<Launched>;
}

const progressMaxBytes = 16 * 1024 * 1024;

/** Options of {@link createLauncher}. */
export interface LauncherOptions {
  files: WorkerFiles;
  logMaxBytes: number;
  controlGroups: "auto" | "off";
  hide: readonly string[];
  emit: (event: RuntimeEvent) => void;
}

export function createLauncher(options: LauncherOptions): Launcher {
  const processRun = createProcessRun(options);

  const begin = async (
    name: string,
    files: AttemptFiles,
    start: (context: AnyRunContext) => Promise<Launched & { cgroups?: readonly string[] }>,
  ): Promise<Launched> => {
    const launch = readLaunch(files);
    if (launch === undefined) return refused("the attempt has no launch file");
    for (const dir of [files.work, files.tmp]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    const log = openLogWriter(files.log, options.logMaxBytes);
    const progress = progressSink(name, files, options.emit);
    const launched = await start({
      launch,
      files,
      log,
      onProgress: progress,
      onLog: () => options.emit({ kind: "log", name }),
      onElements: (ok, failed) => options.emit({ kind: "elements", name, ok, failed }),
    }).catch((error: unknown) => refused(`the sandbox did not start: ${String(error)}`));
    if (launched.kind === "refused") {
      log[Symbol.dispose]();
      return launched;
    }
    writeJson(files.started, startedNote(launch, launched));
    const done = launched.run.done
      .catch((error: unknown) => lostOutcome(String(error)))
      .then((outcome) => {
        log[Symbol.dispose]();
        writeJson(files.exit, outcome);
        return outcome;
      });
    return { ...launched, run: { ...launched.run, done } };
  };

  return {
    async known(files, live, op) {
      const started = readStarted(files);
      const over = readOutcome(files) !== undefined;
      // A container goes on without its keeper: watching it again is no second start.
      if (!live && (started === undefined || (op === "watch" && !over))) return undefined;
      // A process died with the keeper that had it: that is its end, and no second start either.
      if (!live && !over) await recordLost(files);
      const { isolation = [], bootMs: at = bootMs() } = started ?? {};
      return { kind: "started", isolation, bootMs: at };
    },
    start: (name, files) => begin(name, files, processRun),
    watch: (name, files, engine) =>
      begin(name, files, async (context) => {
        const { watchContainer } = await import("./container-watch.ts");
        return watchContainer(context, engine);
      }),
  };
}

/** How process attempts of this keeper are run: each in a sandbox of its own. */
function createProcessRun(options: LauncherOptions): ProcessRun {
  const cgroupHost = options.controlGroups === "off" ? undefined : findCgroupHost();
  // Several workers of one machine share its control groups.
  const tag = createHash("sha256").update(options.files.root).digest("hex").slice(0, 8);
  if (cgroupHost !== undefined) void removeLeft(cgroupHost, `${tag}-`);
  const sandboxes = createSandboxPool({
    pipes: createPipePool(options.files.private),
    cgroupHost,
    cgroupName: `${tag}-${process.pid}`,
    privateDir: options.files.private,
    hide: options.hide,
  });

  return async (context: AnyRunContext): Promise<Launched & { cgroups?: readonly string[] }> => {
    const { launch, files } = context;
    const workdir = launch.workdir ?? files.work;
    if (!existsSync(workdir)) return refused(`no such working directory: ${workdir}`);
    const program = resolveProgram(launch, workdir);
    // No other try would find it: the task fails at once and says what to do.
    if (program.kind === "unusable") {
      return { kind: "refused", exitClass: "rejected", message: program.why };
    }
    const { limits } = launch;
    const sandbox = await sandboxes.take(limits);
    const { cgroup } = sandbox;
    const isBounded = limits.memoryMib === 0 || cgroup?.enforced.includes("memory") === true;
    const memory = isBounded ? undefined : watchMemory(limits.memoryMib);
    const full: RunContext = {
      ...context,
      sandbox,
      anotherSandbox: () => sandboxes.take(limits, cgroup),
      cgroup,
      memory,
      program: program.path,
      workdir,
    };
    let run: LiveRun;
    try {
      run = launch.array === undefined ? startSingle(full) : startArray(full, launch.array);
    } catch (error) {
      memory?.[Symbol.dispose]();
      sandbox.abandon();
      throw error;
    }
    const enforced = (cgroup?.enforced ?? []).map((controller) => `cgroup_${controller}`);
    const watched = memory === undefined ? [] : ["memory_by_sampling"];
    return {
      kind: "launched",
      run: { ...run, done: run.done.finally(() => memory?.[Symbol.dispose]()) },
      isolation: [...run.isolation, ...enforced, ...watched],
      cgroups: cgroup?.dirs ?? [],
    };
  };
}

function startedNote(
  launch: Launch,
  launched: Extract<Launched, { kind: "launched" }> & { cgroups?: readonly string[] },
): Started {
  const { pid } = launched.run;
  return {
    kind: launch.image === undefined ? "process" : "container",
    pid,
    pidStart: processStart(pid) ?? "",
    bootId: bootId(),
    bootMs: bootMs(),
    isolation: launched.isolation,
    cgroups: launched.cgroups ?? [],
  };
}

function refused(message: string): Refused {
  return { kind: "refused", exitClass: "start_failed", message };
}

/** Keeps progress lines on disk, bounded, and passes each on. */
function progressSink(
  name: string,
  files: AttemptFiles,
  emit: (event: RuntimeEvent) => void,
): (line: string) => void {
  let written = 0;
  return (line) => {
    if (written < progressMaxBytes) {
      appendFileSync(files.progress, `${line}\n`, { mode: 0o600 });
      written += line.length + 1;
    }
    emit({ kind: "progress", name, line });
  };
}

function lostOutcome(message: string): Outcome {
  return {
    cause: "lost",
    exitCode: undefined,
    oom: false,
    stopReason: undefined,
    message,
    endedBootMs: bootMs(),
    elements: undefined,
  };
}

/**
 * The end of a process attempt whose keeper is gone: its processes died with it, stragglers are killed here, and
 * what the keeper had recorded of a range counts.
 */
export async function recordLost(files: AttemptFiles): Promise<Outcome> {
  const existing = readOutcome(files);
  if (existing !== undefined) return existing;
  const started = readStarted(files);
  if (started !== undefined && started.bootId === bootId()) {
    const same = started.pid > 0 && processStart(started.pid) === started.pidStart;
    await sweep(same ? started.pid : 0, started.cgroups);
  }
  const launch = readLaunch(files);
  const base = lostOutcome("the keeper of this attempt is gone");
  const outcome: Outcome =
    launch?.array === undefined ? base : { ...base, elements: recordedElements(files) };
  writeJson(files.exit, outcome);
  return outcome;
}

function recordedElements(files: AttemptFiles): NonNullable<Outcome["elements"]> {
  try {
    return parseElementRecord(readFileSync(files.elements, "utf8"));
  } catch {
    return parseElementRecord("");
  }
}

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomInt } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { open, stat, truncate } from "node:fs/promises";
import { createServer } from "node:net";
import { basename } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import type { Logger } from "@fastgpu/telemetry/log";
import { sleep } from "./signals.ts";

/** A log file larger than this starts again when the child does. */
const LOG_LIMIT_BYTES = 8 * 1024 * 1024;
const POLL_MS = 10;

/** A server program that runs beside us. Durations in milliseconds. */
export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Run as somebody else; only root can. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Gets stdout and stderr: a file, since a pipe to a dead parent would kill the child. */
  readonly logFile: string;
  readonly log: Logger;
  /** Called before each start: clear what a crash left behind. */
  prepare(): Promise<void>;
  /** Polled until true. */
  isReady(pid: number): Promise<boolean>;
  readonly readyTimeoutMs: number;
  /** Signals to end it with, each with the time to wait before the next; SIGKILL follows. */
  readonly stopSignals: readonly { readonly signal: NodeJS.Signals; readonly waitMs: number }[];
}

/** A child that is started again when it ends by itself. */
export interface Child extends AsyncDisposable {
  /** Process id of the present run; changes with each restart. */
  readonly pid: number;
  /** How often it had to be started again. */
  readonly restarts: number;
  /** Ends it for good. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Starts a program in a session of its own (a Ctrl-C in our terminal must not reach a database
 * before its clients are done) and keeps it running. Resolves when it is ready; a Fault with the
 * end of its log when the first start fails.
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  const stopping = new AbortController();
  let current = await startOnce(options);
  let restarts = 0;

  const supervise = async (): Promise<void> => {
    for (let failures = 0; ;) {
      await current.exited;
      if (stopping.signal.aborted) return;
      restarts += 1;
      options.log.warn(
        { child: options.name, restarts, ...current.outcome() },
        "child ended; starting it again",
      );
      while (!stopping.signal.aborted) {
        try {
          current = await startOnce(options);
          failures = 0;
          break;
        } catch (error) {
          failures += 1;
          options.log.error({ err: error, child: options.name, failures }, "child does not start");
          await sleep(Math.min(5_000, 100 * 2 ** Math.min(failures, 10)), stopping.signal);
        }
      }
      if (stopping.signal.aborted) return;
    }
  };
  const supervised = supervise();

  const stop = async (): Promise<void> => {
    stopping.abort();
    // A restart may be under way: end whatever there is until the supervisor has let go.
    let done = false;
    void supervised.then(() => (done = true));
    while (!done) {
      await endChild(current, options.stopSignals);
      await Promise.race([supervised, new Promise((resolve) => setTimeout(resolve, POLL_MS))]);
    }
    await endChild(current, options.stopSignals);
  };
  return {
    get pid() {
      return current.pid;
    },
    get restarts() {
      return restarts;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

interface Run {
  readonly pid: number;
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
  outcome(): { code: number | null; signal: NodeJS.Signals | null };
}

async function startOnce(options: ChildOptions): Promise<Run> {
  await options.prepare();
  const offset = await startLog(options.logFile);
  const file = await open(options.logFile, "a", 0o600);
  let run: Run;
  try {
    run = await spawnRun(options, file.fd);
  } finally {
    await file.close();
  }
  const deadline = performance.now() + options.readyTimeoutMs;
  const alive = (): boolean => run.process.exitCode === null && run.process.signalCode === null;
  while (alive()) {
    if (await options.isReady(run.pid)) return run;
    if (performance.now() > deadline) {
      await endChild(run, options.stopSignals);
      throw await startFault(options, offset, `not ready after ${options.readyTimeoutMs} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const { code, signal } = run.outcome();
  throw await startFault(options, offset, `ended with ${signal ?? `exit code ${String(code)}`}`);
}

function spawnRun(options: ChildOptions, logFd: number): Promise<Run> {
  const child = spawn(options.command, [...options.args], {
    detached: true,
    env: { ...options.env },
    stdio: ["ignore", logFd, logFd],
    cwd: "/",
    ...options.user,
  });
  const exited = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  return new Promise((resolve, reject) => {
    child.once("error", (error) => {
      reject(
        new Fault("UNAVAILABLE", `cannot run ${options.command}: ${error.message}`, {
          cause: error,
        }),
      );
    });
    child.once("spawn", () => {
      const outcome = () => ({ code: child.exitCode, signal: child.signalCode });
      resolve({ pid: child.pid ?? 0, process: child, exited, outcome });
    });
  });
}

async function endChild(run: Run, signals: ChildOptions["stopSignals"]): Promise<void> {
  for (const { signal, waitMs } of [...signals, { signal: "SIGKILL" as const, waitMs: 60_000 }]) {
    if (run.process.exitCode !== null || run.process.signalCode !== null) return;
    run.process.kill(signal);
    await withTimeout(run.exited, waitMs);
  }
}

async function withTimeout(promise: Promise<void>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

async function startLog(path: string): Promise<number> {
  const size = await stat(path).then(
    (info) => info.size,
    () => 0,
  );
  if (size < LOG_LIMIT_BYTES) return size;
  await truncate(path);
  return 0;
}

async function startFault(options: ChildOptions, offset: number, what: string): Promise<Fault> {
  const tail = await readTail(options.logFile, offset);
  return new Fault("UNAVAILABLE", `${options.name} ${what}${tail === "" ? "" : `: ${tail}`}`, {
    hint: `see ${options.logFile}`,
  });
}

async function readTail(path: string, offset: number): Promise<string> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const from = Math.max(offset, size - 2_000);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(2_000), 0, 2_000, from);
  return buffer.subarray(0, bytesRead).toString("utf8").trim();
}

/** Ports below those that systems give to outgoing connections (Linux: from 32,768 on), and above the well-known. */
const portRange = { from: 15_000, to: 32_000 };
const portTries = 100;

/**
 * A TCP port on the loopback address that nobody listens on at this moment, and that no outgoing connection gets: it
 * stays free until somebody asks for this very one. With `inARow`, the first of so many. Rejects where none of a
 * hundred is free.
 */
export async function freePort(inARow = 1): Promise<number> {
  for (let tries = portTries; tries > 0; tries--) {
    const port = randomInt(portRange.from, portRange.to);
    const row = Array.from({ length: inARow }, (_, at) => isFree(port + at));
    if ((await Promise.all(row)).every(Boolean)) return port;
  }
  throw new Error(`no free port found from ${portRange.from} to ${portRange.to}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** What Linux tells about a process; `undefined` once it is gone (or for others' processes). */
export interface ProcessInfo {
  readonly pid: number;
  /** Base name of its program. */
  readonly program: string;
  readonly cwd: string;
  readonly args: readonly string[];
}

/** Looks a process up in /proc. Zombies count as gone. */
export function processInfo(pid: number): ProcessInfo | undefined {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    const program = readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, "");
    return { pid, program: basename(program), cwd: readlinkSync(`/proc/${pid}/cwd`), args };
  } catch {
    return undefined;
  }
}

/** Every process that we may look at and that matches. */
export function findProcesses(match: (info: ProcessInfo) => boolean): ProcessInfo[] {
  const found: ProcessInfo[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const info = processInfo(Number(entry));
    if (info !== undefined && match(info)) found.push(info);
  }
  return found;
}

/**
 * Ends processes that an earlier run of ours left behind. `match` is asked again before every
 * signal, since a process id may have gone to somebody else in between.
 */
export async function endLeftovers(
  match: (info: ProcessInfo) => boolean,
  signals: ChildOptions["stopSignals"],
): Promise<number> {
  const first = findProcesses(match).length;
  if (first === 0) return 0;
  for (const { signal, waitMs } of [...signals, { signal: "SIGKILL" as const, waitMs: 10_000 }]) {
    for (const { pid } of findProcesses(match)) sendSignal(pid, signal);
    const deadline = performance.now() + waitMs;
    while (performance.now() < deadline) {
      if (findProcesses(match).length === 0) return first;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  throw new Fault("UNAVAILABLE", `cannot end ${first} processes of an earlier run`);
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended in between: that is what we wanted.
  }
}

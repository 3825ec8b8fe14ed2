import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { membersOf, removeCgroups } from "./cgroup.ts";

/** The processes of one attempt: a group led by the sandbox's outermost process. */
export interface ProcessGroup {
  readonly pid: number;
  readonly child: ChildProcess;
  /** Resolves when the outermost process has ended. */
  readonly exited: Promise<{ code: number }>;
  /** Sends a signal to the task's own processes, not to the sandbox's; false where there is none yet. */
  signal(signal: NodeJS.Signals): boolean;
  /** SIGKILL to everything. */
  kill(): void;
  /** Kills what is left and waits until nothing of the attempt lives; bounded. */
  sweep(): Promise<void>;
}

/** What may still change while the group lives. */
export interface GroupState {
  readonly cgroups: readonly string[];
  /** Processes of the sandbox itself, counted from the outermost: they get no stop signal. */
  readonly sandboxDepth: number;
}

export interface GroupOptions {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdio: StdioOptions;
}

const signalNumbers: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGSYS: 31,
};

/** Starts a group in a session of its own; rejects where the very first program cannot be run. */
export function startGroup(state: GroupState, options: GroupOptions): Promise<ProcessGroup> {
  const [program, ...args] = options.command;
  if (program === undefined) throw new RangeError("empty command");
  const child = spawn(program, args, { detached: true, env: options.env, stdio: options.stdio });
  const exited = new Promise<{ code: number }>((resolve) => {
    child.once("exit", (code, signal) => {
      resolve({ code: code ?? 128 + (signalNumbers[signal ?? "SIGKILL"] ?? 9) });
    });
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("spawn", () => {
      const { pid } = child;
      if (pid === undefined) return reject(new Error("no pid"));
      resolve({
        pid,
        child,
        exited,
        signal: (signal) => signalTask(pid, signal, state.sandboxDepth),
        kill: () => send(-pid, "SIGKILL"),
        sweep: () => sweep(pid, state.cgroups),
      });
    });
  });
}

/** The task's own processes: those below the sandbox's, of which there are `depth` from `pid` on. */
export function taskProcesses(pid: number, depth: number): number[] {
  let level = [pid];
  for (let i = 0; i < depth; i += 1) level = level.flatMap(childrenOf);
  return level.flatMap((root) => [root, ...descendants(root)]);
}

/** Signals the task's own processes; with no sandbox processes, the whole group. */
function signalTask(pid: number, signal: NodeJS.Signals, depth: number): boolean {
  if (depth === 0) return send(-pid, signal);
  const targets = taskProcesses(pid, depth);
  for (const target of targets) send(target, signal);
  return targets.length > 0;
}

/** All processes below `pid`, from the kernel's own lists. */
export function descendants(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendants(child)]);
}

/** Direct children of a process, in the order they were started. */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}

/** Sends a signal; false where there was nobody to get it. */
export function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * Kills the group and, where there are control groups, whatever left it. Ends when all are gone, at the latest
 * after five seconds: a process stuck in the kernel cannot be waited for.
 */
export async function sweep(pid: number, cgroups: readonly string[]): Promise<void> {
  for (let waitMs = 1, waitedMs = 0; waitedMs < 5_000; waitMs = Math.min(100, waitMs * 2)) {
    const group = pid > 0 && send(-pid, "SIGKILL") && hasLiving(pid);
    const members = membersOf(cgroups);
    for (const member of members) send(member, "SIGKILL");
    if (!group && members.length === 0 && removeCgroups(cgroups)) return;
    await sleep(waitMs);
    waitedMs += waitMs;
  }
}

/**
 * Whether a process group holds more than zombies: those wait for whoever is the machine's first process, which may
 * take its time, and hold nothing any more.
 */
function hasLiving(group: number): boolean {
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(pgrp) === group && state !== "Z" && state !== "X";
    } catch {
      return false;
    }
  });
}

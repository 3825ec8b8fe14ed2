import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Limits } from "../runtime/port.ts";

/** Where this process may make control groups: one folder per hierarchy (v1), or one for all (v2). */
export interface CgroupHost {
  readonly version: 1 | 2;
  /** Controller → writable parent folder. */
  readonly parents: Readonly<Partial<Record<"cpu" | "memory" | "pids", string>>>;
}

const controllers = ["cpu", "memory", "pids"] as const;

/** Finds the writable hierarchies of this process; undefined where there is none (limits then fall back). */
export function findCgroupHost(): CgroupHost | undefined {
  const mounts = readLines("/proc/self/mounts").map((line) => line.split(" "));
  const own = readLines("/proc/self/cgroup").map((line) => line.split(":"));
  const parents: Partial<Record<"cpu" | "memory" | "pids", string>> = {};
  for (const controller of controllers) {
    const mount = mounts.find((m) => m[2] === "cgroup" && m[3]?.split(",").includes(controller));
    const path = own.find((o) => o[1]?.split(",").includes(controller))?.[2];
    const parent = mount?.[1] && path !== undefined ? firstWritable(mount[1], path) : undefined;
    if (parent !== undefined) parents[controller] = parent;
  }
  if (Object.keys(parents).length > 0) return { version: 1, parents };
  return findUnified(mounts, own);
}

function findUnified(mounts: string[][], own: string[][]): CgroupHost | undefined {
  const root = mounts.find((m) => m[2] === "cgroup2")?.[1];
  const path = own.find((o) => o[0] === "0")?.[2];
  if (root === undefined || path === undefined) return undefined;
  const parent = firstWritable(root, path);
  if (parent === undefined) return undefined;
  const available = readWords(join(parent, "cgroup.controllers"));
  const wanted = controllers.filter((c) => available.includes(c));
  try {
    writeFileSync(join(parent, "cgroup.subtree_control"), wanted.map((c) => `+${c}`).join(" "));
  } catch {
    // A group with processes in it cannot delegate (except the root): use what is enabled already.
  }
  const enabled = readWords(join(parent, "cgroup.subtree_control"));
  const parents: Partial<Record<"cpu" | "memory" | "pids", string>> = {};
  for (const controller of wanted.filter((c) => enabled.includes(c))) parents[controller] = parent;
  return Object.keys(parents).length === 0 ? undefined : { version: 2, parents };
}

/** The process's own group or, where that one is outside our view (containers), the mount itself. */
function firstWritable(mount: string, path: string): string | undefined {
  for (const candidate of [join(mount, path), mount]) {
    try {
      accessSync(candidate, constants.W_OK);
      return candidate;
    } catch {
      // Read-only or absent: the next one.
    }
  }
  return undefined;
}

/** The control groups of one attempt. */
export interface AttemptCgroup {
  /** `cgroup.procs` files that a process writes itself into, before anything else. */
  readonly joins: readonly string[];
  /** Which limits are in force here. */
  readonly enforced: readonly ("cpu" | "memory" | "pids")[];
  readonly dirs: readonly string[];
  /** Kills by the out-of-memory killer so far. */
  oomKills(): number;
}

/** Makes the groups of the attempt `name` and writes its limits. Idempotent. */
export function createAttemptCgroup(host: CgroupHost, name: string, limits: Limits): AttemptCgroup {
  const dirs = new Set<string>();
  const enforced: ("cpu" | "memory" | "pids")[] = [];
  for (const controller of controllers) {
    const parent = host.parents[controller];
    if (parent === undefined) continue;
    const dir = join(parent, `fastgpu-${name}`);
    mkdirSync(dir, { recursive: true });
    dirs.add(dir);
    if (writeLimit(host.version, dir, controller, limits)) enforced.push(controller);
  }
  return fromDirs([...dirs], enforced);
}

/** The groups of an attempt that an earlier keeper made. */
export function fromDirs(
  dirs: readonly string[],
  enforced: AttemptCgroup["enforced"] = [],
): AttemptCgroup {
  return {
    dirs,
    enforced,
    joins: dirs.map((dir) => join(dir, "cgroup.procs")),
    oomKills: () => Math.max(0, ...dirs.map(oomKillsIn)),
  };
}

function writeLimit(
  version: 1 | 2,
  dir: string,
  controller: "cpu" | "memory" | "pids",
  limits: Limits,
): boolean {
  const files = limitFiles(version, controller, limits);
  if (files.length === 0) return false;
  let applied = false;
  for (const [file, value, optional] of files) {
    try {
      writeFileSync(join(dir, file), value);
      applied = true;
    } catch (error) {
      if (optional !== true) throw error;
    }
  }
  return applied;
}

function limitFiles(
  version: 1 | 2,
  controller: "cpu" | "memory" | "pids",
  limits: Limits,
): (readonly [file: string, value: string, optional?: boolean])[] {
  const memory = String(limits.memoryMib * 1024 * 1024);
  const quota = String(limits.cpuMillis * 100);
  switch (controller) {
    case "memory":
      if (limits.memoryMib === 0) return [];
      return version === 1
        ? [
            ["memory.limit_in_bytes", memory],
            ["memory.memsw.limit_in_bytes", memory, true],
          ]
        : [
            ["memory.max", memory],
            ["memory.swap.max", "0", true],
          ];
    case "pids":
      return limits.pids === 0 ? [] : [["pids.max", String(limits.pids)]];
    case "cpu":
      if (limits.cpuMillis === 0) return [];
      return version === 1
        ? [
            ["cpu.cfs_period_us", "100000", true],
            ["cpu.cfs_quota_us", quota],
          ]
        : [["cpu.max", `${quota} 100000`]];
  }
}

function oomKillsIn(dir: string): number {
  for (const file of ["memory.events", "memory.oom_control"]) {
    const line = readLines(join(dir, file)).find((l) => l.startsWith("oom_kill "));
    if (line !== undefined) return Number(line.slice("oom_kill ".length));
  }
  return 0;
}

/** How often, and at what interval in milliseconds, groups of a dead keeper are tried again. */
const leftTries = 100;
const leftPauseMs = 50;

/**
 * Removes the groups whose names begin so now: those of a keeper that was killed. What dies with it may still be in
 * them for a moment; a group that has processes after that is left.
 */
export async function removeLeft(host: CgroupHost, prefix: string): Promise<void> {
  const left = [...new Set(Object.values(host.parents))].flatMap((parent) =>
    readdirSync(parent)
      .filter((name) => name.startsWith(`fastgpu-${prefix}`))
      .map((name) => join(parent, name)),
  );
  for (let tries = leftTries; !removeCgroups(left) && tries > 0; tries--) await sleep(leftPauseMs);
}

/** Processes in the groups right now. */
export function membersOf(dirs: readonly string[]): number[] {
  const members = new Set<number>();
  for (const dir of dirs) {
    for (const line of readLines(join(dir, "cgroup.procs"))) members.add(Number(line));
  }
  return [...members];
}

/** Removes empty groups; a group that still has processes is left and reported by false. */
export function removeCgroups(dirs: readonly string[]): boolean {
  let removed = true;
  for (const dir of dirs) {
    try {
      if (existsSync(dir)) rmdirSync(dir);
    } catch {
      removed = false;
    }
  }
  return removed;
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line !== "");
  } catch {
    return [];
  }
}

function readWords(path: string): string[] {
  return readLines(path).flatMap((line) => line.split(" "));
}

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Stream, Writable } from "node:stream";
import type { Limits } from "../runtime/port.ts";
import {
  type AttemptCgroup,
  type CgroupHost,
  createAttemptCgroup,
  removeCgroups,
} from "./cgroup.ts";
import { type ProcessGroup, childrenOf, startGroup } from "./group.ts";
import { type PipePool, closeQuietly } from "./pipes.ts";
import { createLineSplitter } from "./run.ts";
import { type SandboxHost, hideTable, probeSandbox, sandboxCommand } from "./sandbox.ts";
import { type TaskScript, writeTaskScript } from "./task-script.ts";

/** A sandbox whose shell waits for its task: namespaces, control groups and privileges are as they will be. */
export interface Sandbox {
  readonly group: ProcessGroup;
  readonly isolation: readonly string[];
  readonly inNamespaces: boolean;
  readonly outFd: number;
  readonly errFd: number;
  /** Its own control groups, or those it was made in. */
  readonly cgroup: AttemptCgroup | undefined;
  /** Sends a line to the shell: first the script, for lanes then the indexes. */
  readonly control: Writable;
  /** Tells the shell what to run; `path` is where the script goes. Processes above the task from then on: `depth`. */
  begin(path: string, script: TaskScript): { readonly depth: number };
  /** Ends it where nothing will begin in it. */
  abandon(): void;
}

/** Makes sandboxes, one ahead of demand once there was any: a start then costs a line to a waiting shell. */
export interface SandboxPool {
  /** A sandbox with these limits; `inside`: in the control groups of another one, whose limits count. */
  take(limits: Limits, inside?: AttemptCgroup): Promise<Sandbox>;
}

/** After a start, so that the next sandbox does not compete with the task that was just started. */
const refillAfterMs = 20;

const noLimits: Limits = { cpuMillis: 0, memoryMib: 0, pids: 0 };

export function createSandboxPool(options: {
  pipes: PipePool;
  cgroupHost: CgroupHost | undefined;
  /** First part of the names of control groups. */
  cgroupName: string;
  /** Folder for the table of hidden folders. */
  privateDir: string;
  hide: readonly string[];
}): SandboxPool {
  const { cgroupHost } = options;
  let host: SandboxHost | undefined;
  let made = 0;
  let spare: Promise<Made | undefined> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const make = async (inside: AttemptCgroup | undefined): Promise<Made> => {
    host ??= probeSandbox();
    const hidden = options.hide.filter((path) => existsSync(path));
    const table = join(options.privateDir, "hidden.fstab");
    writeFileSync(table, hideTable(hidden), { mode: 0o600 });
    const name = `${options.cgroupName}-${made++}`;
    const cgroup =
      inside ??
      (cgroupHost === undefined ? undefined : createAttemptCgroup(cgroupHost, name, noLimits));
    return start({ host, hidden, table, cgroup, pipes: options.pipes, name });
  };
  /** A spare that still is what a new one would be. */
  const fromSpare = async (): Promise<Made | undefined> => {
    // Claimed before waiting: nobody else may get it.
    const claimed = spare;
    spare = undefined;
    const ready = await claimed;
    if (ready === undefined) return undefined;
    const hidden = options.hide.filter((path) => existsSync(path));
    const fits = ready.alive() && hidden.join("\n") === ready.hidden.join("\n");
    if (fits) return ready;
    ready.abandon();
    return undefined;
  };
  return {
    async take(limits, inside) {
      clearTimeout(timer);
      const sandbox =
        (inside === undefined ? await fromSpare() : undefined) ?? (await make(inside));
      timer = setTimeout(() => {
        spare ??= make(undefined).catch(() => undefined);
      }, refillAfterMs);
      timer.unref();
      if (inside !== undefined || cgroupHost === undefined) return sandbox;
      return { ...sandbox, cgroup: createAttemptCgroup(cgroupHost, sandbox.name, limits) };
    },
  };
}

interface Made extends Sandbox {
  readonly name: string;
  readonly hidden: readonly string[];
  alive(): boolean;
}

/** Starts the chain of programs and waits until its last one, the shell inside, says that it waits. */
async function start(of: {
  host: SandboxHost;
  hidden: readonly string[];
  table: string;
  cgroup: AttemptCgroup | undefined;
  pipes: PipePool;
  name: string;
}): Promise<Made> {
  const { host, cgroup } = of;
  const inNamespaces = host.unshare.length > 0;
  const { command, isolation } = sandboxCommand({
    host,
    table: of.hidden.length > 0 ? of.table : undefined,
  });
  const [out, err] = await of.pipes.take(2);
  if (out === undefined || err === undefined) throw new Error("no pipes");
  const about = { cgroups: cgroup?.dirs ?? [], sandboxDepth: inNamespaces ? 2 : 1 };
  const group = await startGroup(about, {
    command,
    env: {},
    stdio: ["ignore", out.writeFd, err.writeFd, "pipe", "pipe", "pipe"],
  }).finally(() => {
    closeQuietly(out.writeFd);
    closeQuietly(err.writeFd);
  });
  let alive = true;
  void group.exited.then(() => (alive = false));
  try {
    await waits(group);
    const shell = inNamespaces ? childrenOf(group.pid)[0] : group.pid;
    if (shell === undefined) throw new Error("its shell is gone");
    for (const path of cgroup?.joins ?? []) writeFileSync(path, String(shell));
  } catch (error) {
    group.kill();
    for (const fd of [out.readFd, err.readFd]) closeQuietly(fd);
    removeCgroups(about.cgroups);
    throw error;
  }
  const control = group.child.stdio[4];
  if (!(control instanceof Writable)) throw new Error("no control pipe");
  control.on("error", () => undefined);
  return {
    name: of.name,
    hidden: of.hidden,
    group,
    isolation,
    inNamespaces,
    outFd: out.readFd,
    errFd: err.readFd,
    cgroup,
    control,
    // Its end may not have been told yet: a dead process has no children.
    alive: () => alive && (!inNamespaces || childrenOf(group.pid).length > 0),
    abandon() {
      group.kill();
      for (const fd of [out.readFd, err.readFd]) closeQuietly(fd);
      void group.exited.then(() => group.sweep());
    },
    begin(path, script) {
      writeTaskScript(path, script);
      if (script.how === "replace") about.sandboxDepth -= 1;
      control.write(`${path}\n`);
      return { depth: about.sandboxDepth };
    },
  };
}

/** Resolves at the shell's first line on descriptor 5; rejects where the sandbox ended before. */
function waits(group: ProcessGroup): Promise<void> {
  return new Promise((resolve, reject) => {
    const stdio: readonly (Stream | null | undefined)[] = group.child.stdio;
    const status = stdio[5];
    const onData = createLineSplitter(() => {
      status?.removeListener("data", onData);
      resolve();
    });
    status?.on("data", onData);
    status?.on("error", () => undefined);
    void group.exited.then(({ code }) => reject(new Error(`it ended with code ${code}`)));
  });
}

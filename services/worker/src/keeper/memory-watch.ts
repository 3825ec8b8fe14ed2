import { readFileSync } from "node:fs";
import { send, taskProcesses } from "./group.ts";

const shortestMs = 50;
const longestMs = 1_000;
/** Looking may take this part of one core. */
const share = 0.05;

/**
 * Bounds the memory of one attempt where no control group does: looks at its processes again and again and kills the
 * biggest while all together hold more than the limit, as the kernel would. A limit on address space would end
 * programs that only reserve it (Node, Java, CUDA), one on the data segment too. What comes and goes between two looks
 * is not seen.
 */
export interface MemoryWatch extends Disposable {
  /** Counts the task's processes below `pid` too; `depth`: processes of the sandbox itself, from `pid` on. */
  add(pid: number, depth: number): void;
  remove(pid: number): void;
  /** Processes killed so far. */
  readonly kills: number;
}

/** Starts watching; `limitMib` > 0. */
export function watchMemory(limitMib: number): MemoryWatch {
  const limitKib = limitMib * 1_024;
  const sandboxes = new Map<number, number>();
  let kills = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    const begun = performance.now();
    const pids = [...sandboxes].flatMap(([pid, depth]) => taskProcesses(pid, depth));
    const victim = biggestOver(limitKib, pids);
    if (victim !== undefined && send(victim, "SIGKILL")) kills += 1;
    const tookMs = performance.now() - begun;
    timer = setTimeout(look, Math.min(longestMs, Math.max(shortestMs, tookMs / share)));
    timer.unref();
  };
  look();
  return {
    add: (pid, depth) => void sandboxes.set(pid, depth),
    remove: (pid) => void sandboxes.delete(pid),
    get kills() {
      return kills;
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

/** The process that holds most, where all together hold more than `limitKib`. */
function biggestOver(limitKib: number, pids: readonly number[]): number | undefined {
  // Pages that processes share count once for each of them here: an upper bound, and cheap to read.
  if (sum(pids, residentKib) <= limitKib) return undefined;
  const held = pids.map((pid) => [pid, proportionalKib(pid) ?? residentKib(pid)] as const);
  if (held.reduce((total, [, kib]) => total + kib, 0) <= limitKib) return undefined;
  return held.toSorted(([, a], [, b]) => b - a)[0]?.[0];
}

function sum(pids: readonly number[], of: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + of(pid), 0);
}

/** Memory of a process that only it or shared memory holds; pages of files can be dropped and do not count. */
function residentKib(pid: number): number {
  const fields = readFields(`/proc/${pid}/status`);
  return (fields.get("RssAnon") ?? 0) + (fields.get("RssShmem") ?? 0);
}

/** The same with shared pages divided among their holders; undefined where it may not be read. */
function proportionalKib(pid: number): number | undefined {
  const fields = readFields(`/proc/${pid}/smaps_rollup`);
  const anonymous = fields.get("Pss_Anon");
  return anonymous === undefined ? undefined : anonymous + (fields.get("Pss_Shmem") ?? 0);
}

function readFields(path: string): Map<string, number> {
  try {
    const lines = readFileSync(path, "utf8").matchAll(/^(\w+):\s+(\d+) kB$/gm);
    return new Map([...lines].map(([, name = "", value]) => [name, Number(value)]));
  } catch {
    return new Map();
  }
}

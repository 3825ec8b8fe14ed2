import { mkdirSync } from "node:fs";
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { indexesOf } from "../ranges.ts";
import type { IndexRanges } from "../runtime/port.ts";

/** What an attempt that the scheduler has let go of leaves of its task's checkpoints. */
export type CheckpointUse =
  | {
      readonly kind: "whole";
      /** The task has ended: nothing will resume from them. */
      readonly over: boolean;
    }
  | {
      readonly kind: "elements";
      /** Leased indexes, and those of them that have ended for good. */
      readonly leased: IndexRanges;
      readonly over: IndexRanges;
    };

/** Which attempt the folder is made ready for. */
export interface CheckpointTurn {
  readonly epoch: number;
  /** The newest checkpoint in storage, and how to fetch its files into a folder; undefined: none. */
  readonly stored:
    | { readonly epoch: number; readonly fetch: (folder: string) => Promise<void> }
    | undefined;
}

/**
 * Checkpoints of this worker's tasks: a folder a task, or a member of a gang (below it one an element of an array), that
 * every attempt of the task on this worker gets again.
 */
export interface CheckpointStore extends Disposable {
  /** The task's folder, without making it. */
  folderOf(task: string): string;
  /** Keeps the folder from being swept while an attempt of the task is here. */
  hold(task: string): void;
  /**
   * Makes the folder with what the task resumes from: what its newest attempt here has left, or the checkpoint in storage
   * where that is of a later attempt. `openToAll`: for a container, whoever its user is. `turn`: undefined for ranges of
   * arrays, whose elements have nothing in storage. Repeats are harmless.
   */
  prepare(
    task: string,
    options: { readonly openToAll: boolean; readonly turn: CheckpointTurn | undefined },
  ): Promise<void>;
  /** An attempt lets go, its end acknowledged or the attempt not ours any more (`use` undefined: all is kept). */
  release(task: string, use: CheckpointUse | undefined): Promise<void>;
  /** Removes folders that no attempt holds and none has used for `keepMs`. */
  sweep(): Promise<void>;
}

const sweepMs = 3_600_000;

/** Opens the store in `dir`; `keepMs`: how long an unused folder stays, in milliseconds. */
export function openCheckpoints(options: { dir: string; keepMs: number }): CheckpointStore {
  const { dir } = options;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const holders = new Map<string, number>();
  const folderOf = (task: string): string => {
    if (!/^[a-z0-9][a-z0-9-]{0,100}$/.test(task)) throw new RangeError(`bad task name ${task}`);
    return join(dir, task);
  };
  const sweep = async (): Promise<void> => {
    const oldest = Date.now() - options.keepMs;
    for (const name of await readdir(dir).catch(() => [])) {
      const path = join(dir, name);
      const used = await stat(path).catch(() => undefined);
      const [task = ""] = name.split(".");
      if (used === undefined || used.mtimeMs > oldest || holders.has(task)) continue;
      await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  };
  const timer = setInterval(() => void sweep(), Math.min(sweepMs, options.keepMs));
  timer.unref();
  return {
    folderOf,
    hold: (task) => void holders.set(task, (holders.get(task) ?? 0) + 1),
    async prepare(task, { openToAll, turn }) {
      const path = folderOf(task);
      if (turn?.stored !== undefined && turn.stored.epoch > (await readEpoch(path))) {
        await replace(path, turn.stored.fetch);
        if (openToAll) await openBelow(path);
      }
      await mkdir(path, { recursive: true, mode: 0o700 });
      // The folder above is closed to the host's others.
      if (openToAll) await chmod(path, 0o777);
      await touch(path);
      // Last: from here on the folder is this attempt's.
      if (turn !== undefined) await writeFile(epochFile(path), String(turn.epoch));
    },
    async release(task, use) {
      const path = folderOf(task);
      const left = (holders.get(task) ?? 1) - 1;
      if (left <= 0) holders.delete(task);
      else holders.set(task, left);
      await touch(path);
      await touch(epochFile(path));
      if (use?.kind === "whole" && use.over && left <= 0) {
        await rm(path, { recursive: true, force: true });
        await rm(epochFile(path), { force: true });
      }
      if (use?.kind === "elements") await dropElements(path, use, left <= 0);
    },
    sweep,
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Beside the folder: the epoch of the attempt that had it last. */
const epochFile = (path: string): string => `${path}.epoch`;

/** -1 where no attempt that noted it has had the folder. */
async function readEpoch(path: string): Promise<number> {
  const text = await readFile(epochFile(path), "utf8").catch(() => "");
  return text === "" ? -1 : Number(text);
}

/** Puts fetched files in the folder's place. Broken off it leaves a folder of an earlier epoch, or none. */
async function replace(
  path: string,
  fetch: Exclude<CheckpointTurn["stored"], undefined>["fetch"],
): Promise<void> {
  const draft = `${path}.fetching`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  await fetch(draft);
  await rm(path, { recursive: true, force: true });
  await rename(draft, path);
}

/** A container's user is none of the host's: fetched files are for everybody who reaches them. */
async function openBelow(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  for (const entry of entries) {
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o777 : 0o666);
  }
}

/** Its own time says when it was used last: a task may write only below it. */
async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined);
}

async function dropElements(
  path: string,
  use: Extract<CheckpointUse, { kind: "elements" }>,
  last: boolean,
): Promise<void> {
  const over = new Set(indexesOf(use.over));
  for (const index of indexesOf(use.leased)) {
    const own = join(path, String(index));
    // Most elements write nothing: an empty folder goes in one call.
    const emptied = await rmdir(own).then(
      () => true,
      () => false,
    );
    if (!emptied && over.has(index)) await rm(own, { recursive: true, force: true });
  }
  // Other ranges of the array may still have theirs: then this does nothing.
  if (last) await rmdir(path).catch(() => undefined);
}

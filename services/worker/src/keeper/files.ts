import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Launch, Outcome } from "../runtime/port.ts";

/** Where everything of one worker lies. `private` is hidden from tasks where mount namespaces work. */
export interface WorkerFiles {
  readonly root: string;
  readonly private: string;
  readonly attempts: string;
  /** One folder a task, kept over its attempts. */
  readonly checkpoints: string;
  /** Folder of unix sockets: `private`, or a short one where that path is too long for a socket. */
  readonly sockets: string;
  readonly socket: string;
  readonly deadlines: string;
}

/** The layout under a worker's data directory. */
export function workerFiles(root: string): WorkerFiles {
  const sockets = socketFolder(root);
  return {
    root,
    private: join(root, "private"),
    attempts: join(root, "attempts"),
    checkpoints: join(root, "checkpoints"),
    sockets,
    socket: join(sockets, "keeper.sock"),
    deadlines: join(root, "private", "deadlines.json"),
  };
}

/** Longest folder that leaves room for a socket's name in the 107 bytes that Linux takes. */
const longestSocketFolder = 90;

function socketFolder(root: string): string {
  const usual = join(root, "private");
  if (Buffer.byteLength(usual) <= longestSocketFolder) return usual;
  const name = createHash("sha256").update(root).digest("hex").slice(0, 16);
  return `/tmp/fastgpu-${process.getuid?.() ?? 0}-${name}`;
}

/** Files of one attempt. */
export interface AttemptFiles {
  readonly dir: string;
  readonly launch: string;
  readonly started: string;
  readonly exit: string;
  readonly log: string;
  readonly progress: string;
  readonly elements: string;
  /** What the sandbox's shell runs. */
  readonly script: string;
  readonly work: string;
  readonly tmp: string;
}

/** The files of the attempt `name`; the name is an id, so it cannot leave the folder. */
export function attemptFiles(files: WorkerFiles, name: string): AttemptFiles {
  if (!/^[a-z0-9][a-z0-9-]{0,100}$/.test(name)) throw new RangeError(`bad attempt name ${name}`);
  const dir = join(files.attempts, name);
  return {
    dir,
    launch: join(dir, "launch.json"),
    started: join(dir, "started.json"),
    exit: join(dir, "exit.json"),
    log: join(dir, "output.log"),
    progress: join(dir, "progress.jsonl"),
    elements: join(dir, "elements.log"),
    script: join(dir, "run.sh"),
    work: join(dir, "work"),
    tmp: join(dir, "tmp"),
  };
}

/** Makes the worker's folders, closed to other users. */
export function prepareWorkerFiles(files: WorkerFiles): void {
  for (const dir of [files.root, files.private, files.attempts, files.sockets]) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }
  // A folder below /tmp could have been made by somebody else before us.
  const { uid, mode } = lstatSync(files.sockets);
  if (uid !== process.getuid?.() || (mode & 0o077) !== 0) {
    throw new Error(
      `${files.sockets} is open to others: remove it or use a shorter data directory`,
    );
  }
}

/** What the keeper notes when an attempt runs. */
export interface Started {
  readonly kind: "process" | "container";
  /** The outermost process of the attempt, leader of its group; 0 for containers. */
  readonly pid: number;
  /** Start time of that process in clock ticks since boot, against reuse of the pid. */
  readonly pidStart: string;
  readonly bootId: string;
  readonly bootMs: number;
  readonly isolation: readonly string[];
  readonly cgroups: readonly string[];
}

/** Replaces a file in one step; `durable` waits until it would survive a power cut. */
export function writeJson(path: string, value: unknown, durable = false): void {
  const temporary = `${path}.new`;
  const fd = openSync(temporary, "w", 0o600);
  try {
    writeSync(fd, JSON.stringify(value));
    if (durable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
}

function readJson(path: string): unknown {
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, "utf8");
  // A power cut may leave an empty file behind a rename: that is "not written".
  if (text === "") return undefined;
  return JSON.parse(text) as unknown;
}

/** The launch of an attempt, undefined where none was written. Files under the data directory are our own. */
export function readLaunch(files: AttemptFiles): Launch | undefined {
  return readJson(files.launch) as Launch | undefined;
}

export function readStarted(files: AttemptFiles): Started | undefined {
  return readJson(files.started) as Started | undefined;
}

export function readOutcome(files: AttemptFiles): Outcome | undefined {
  return readJson(files.exit) as Outcome | undefined;
}

/** Deadlines of live attempts, milliseconds since the boot named. */
export interface Deadlines {
  readonly bootId: string;
  readonly killAt: Readonly<Record<string, number>>;
}

export function readDeadlines(files: WorkerFiles): Deadlines | undefined {
  return readJson(files.deadlines) as Deadlines | undefined;
}

/** Names of all attempts with a folder here. */
export function attemptNames(files: WorkerFiles): string[] {
  if (!existsSync(files.attempts)) return [];
  return readdirSync(files.attempts, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

/** Start time of a process in clock ticks since boot; undefined where it is gone. */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { type Socket, connect } from "node:net";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import type { RuntimeEvent } from "../runtime/port.ts";
import { bootId } from "../boot-time.ts";
import { type WorkerFiles, prepareWorkerFiles, writeJson } from "./files.ts";
import { createLineSplitter } from "./run.ts";
import {
  type KeeperEvent,
  type KeeperReply,
  type KeeperRequest,
  type KeeperResult,
  encodeLine,
} from "./wire.ts";

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

/** The keeper ended before it answered. */
class KeeperGone extends Error {
  constructor() {
    super("the keeper is gone");
  }
}

/** Options of {@link createKeeperClient}. */
export interface KeeperClientOptions {
  readonly files: WorkerFiles;
  /** The keeper exits after this long with nothing to keep, in milliseconds. */
  readonly idleMs?: number;
  readonly logMaxBytes?: number;
  /** Folders that process tasks must not see. */
  readonly hide?: readonly string[];
  /** `off`: attempts get no control groups. */
  readonly controlGroups?: "auto" | "off";
  /** The keeper's program; the default is the one beside this file. */
  readonly program?: string;
}

/** A worker's line to its keeper. */
export interface KeeperClient {
  /** Sends a request, starting the keeper where none runs. */
  ask(request: WithoutId<KeeperRequest>): Promise<KeeperResult>;
  /** Like `ask`, but undefined where no keeper runs. */
  askIfAlive(request: WithoutId<KeeperRequest>): Promise<KeeperResult | undefined>;
  /** Moves deadlines of live attempts (milliseconds since boot); they stand in a file that outlives this worker. */
  setDeadlines(deadlines: ReadonlyMap<string, number>): Promise<void>;
  /** Drops the deadline of an attempt that is gone. */
  forget(name: string): void;
  onEvent(listener: (event: RuntimeEvent) => void): void;
  /** Called when an established line broke: the keeper may be gone with everything it kept. */
  onLost(listener: () => void): void;
  close(): void;
}

export function createKeeperClient(options: KeeperClientOptions): KeeperClient {
  const listeners: ((event: RuntimeEvent) => void)[] = [];
  const lost: (() => void)[] = [];
  const waiting = new Map<
    number,
    { resolve(result: KeeperResult): void; reject(error: Error): void }
  >();
  const killAtOf = new Map<string, number>();
  let line: Promise<Socket | undefined> | undefined;
  let nextId = 1;
  let closed = false;

  const attach = (socket: Socket): void => {
    const onLine = (text: string): void => {
      const message = JSON.parse(text) as KeeperReply | KeeperEvent;
      if ("event" in message) {
        for (const listener of listeners) listener(message.event);
        return;
      }
      const waiter = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.ok) waiter?.resolve(message.result);
      else waiter?.reject(new Error(message.error));
    };
    socket.on("data", createLineSplitter(onLine, 64 * 1024 * 1024));
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      line = undefined;
      for (const waiter of waiting.values()) waiter.reject(new KeeperGone());
      waiting.clear();
      if (!closed) for (const listener of lost) listener();
    });
  };
  const open = async (start: boolean): Promise<Socket | undefined> => {
    const alive = await connectTo(options.files.socket);
    if (alive !== undefined || !start) return alive;
    await startKeeper(options);
    const socket = await connectTo(options.files.socket);
    if (socket === undefined) throw new Error("the keeper does not answer");
    return socket;
  };
  const reach = async (start: boolean): Promise<Socket | undefined> => {
    line ??= open(start).then((socket) => {
      if (socket === undefined) line = undefined;
      else attach(socket);
      return socket;
    });
    try {
      const socket = await line;
      // The line may have been tried by someone who would not start a keeper.
      return socket === undefined && start ? await reach(start) : socket;
    } catch (error) {
      line = undefined;
      throw error;
    }
  };
  const send = (socket: Socket, request: WithoutId<KeeperRequest>): Promise<KeeperResult> => {
    const id = nextId++;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      socket.write(encodeLine({ ...request, id } as KeeperRequest));
    });
  };
  /** Every request is safe to repeat, so a keeper that dies under one is replaced and asked again. */
  const askAgain = async (
    start: boolean,
    request: WithoutId<KeeperRequest>,
  ): Promise<KeeperResult | undefined> => {
    for (let triesLeft = 2; ; triesLeft -= 1) {
      const socket = await reach(start);
      if (socket === undefined) return undefined;
      try {
        return await send(socket, request);
      } catch (error) {
        if (!(error instanceof KeeperGone) || triesLeft === 0) throw error;
      }
    }
  };
  return {
    async ask(request) {
      const result = await askAgain(true, request);
      if (result === undefined) throw new Error("no keeper");
      return result;
    },
    askIfAlive: (request) => askAgain(false, request),
    async setDeadlines(deadlines) {
      for (const [name, killAt] of deadlines) killAtOf.set(name, killAt);
      writeJson(options.files.deadlines, {
        bootId: bootId(),
        killAt: Object.fromEntries(killAtOf),
      });
      await askAgain(false, { op: "deadlines" });
    },
    forget: (name) => void killAtOf.delete(name),
    onEvent: (listener) => void listeners.push(listener),
    onLost: (listener) => void lost.push(listener),
    close() {
      closed = true;
      void line?.then((socket) => socket?.destroy()).catch(() => undefined);
    },
  };
}

function connectTo(path: string): Promise<Socket | undefined> {
  if (!existsSync(path)) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", () => resolve(undefined));
  });
}

/** Starts the keeper in a session of its own with nothing of our environment, and waits until it serves. */
async function startKeeper(options: KeeperClientOptions): Promise<void> {
  prepareWorkerFiles(options.files);
  const log = openSync(join(options.files.private, "keeper.log"), "a", 0o600);
  const child = spawn(
    process.execPath,
    [
      "--disable-warning=ExperimentalWarning",
      "--max-semi-space-size=1",
      options.program ?? defaultProgram(),
      options.files.root,
      JSON.stringify({
        ...(options.idleMs === undefined ? {} : { idleMs: options.idleMs }),
        ...(options.logMaxBytes === undefined ? {} : { logMaxBytes: options.logMaxBytes }),
        ...(options.controlGroups === undefined ? {} : { controlGroups: options.controlGroups }),
        hide: options.hide ?? [],
      }),
    ],
    {
      cwd: "/",
      detached: true,
      stdio: ["ignore", "pipe", log],
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    },
  );
  closeSync(log);
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the keeper ended with code ${code}`)));
    child.stdout?.once("data", () => resolve());
  });
  child.removeAllListeners("exit");
  child.stdout?.destroy();
  child.unref();
}

function defaultProgram(): string {
  const here = import.meta.url;
  return fileURLToPath(new URL(here.endsWith(".ts") ? "./main.ts" : "./keeper.js", here));
}

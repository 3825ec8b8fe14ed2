import { statSync } from "node:fs";
import { type Socket, createServer } from "node:net";
import { bootId, bootMs } from "../boot-time.ts";
import type { RuntimeEvent } from "../runtime/port.ts";
import { type WorkerFiles, attemptFiles, readDeadlines } from "./files.ts";
import { type Launcher, createLauncher } from "./launcher.ts";
import { type LiveRun, createLineSplitter, leaseWarningMs } from "./run.ts";
import { type KeeperRequest, type KeeperResult, encodeLine } from "./wire.ts";

const tickMs = 100;
const logEventMs = 25;

/** Options of {@link serveKeeper}. */
export interface KeeperOptions {
  readonly files: WorkerFiles;
  /** Exit after this long with nothing to keep, in milliseconds. */
  readonly idleMs: number;
  readonly logMaxBytes: number;
  readonly hide: readonly string[];
  /** `off`: memory is watched instead, CPU and processes are not limited. */
  readonly controlGroups: "auto" | "off";
}

/** Serves one worker until there is nothing left to keep. Resolves then; the caller exits. */
export async function serveKeeper(options: KeeperOptions): Promise<void> {
  const keeper = new Keeper(options);
  const server = createServer((socket) => keeper.accept(socket));
  await new Promise<void>((ready, failed) => {
    server.once("error", failed);
    server.listen(options.files.socket, ready);
  });
  process.stdout.on("error", () => undefined);
  process.stdout.write("ready\n");
  process.once("SIGTERM", () => keeper.killAll());
  await keeper.idle;
  server.close();
}

class Keeper {
  readonly idle: Promise<void>;
  readonly #options: KeeperOptions;
  readonly #launcher: Launcher;
  readonly #live = new Map<string, LiveRun>();
  readonly #starting = new Map<string, Promise<KeeperResult>>();
  readonly #killAt = new Map<string, number>();
  readonly #clients = new Set<Socket>();
  readonly #logEvents = new Set<string>();
  #becomeIdle: () => void = () => undefined;
  #idleSince = performance.now();
  #deadlinesRead = 0;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#launcher = createLauncher({ ...options, emit: (event) => this.#emit(event) });
    this.idle = new Promise((resolve) => {
      this.#becomeIdle = resolve;
    });
    const tick = setInterval(() => this.#tick(), tickMs);
    void this.idle.then(() => clearInterval(tick));
  }

  accept(socket: Socket): void {
    this.#clients.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#clients.delete(socket));
    const onLine = (line: string): void => {
      const request = JSON.parse(line) as KeeperRequest;
      void this.#answer(request).then(
        (result) => socket.write(encodeLine({ id: request.id, ok: true, result })),
        (error: unknown) =>
          socket.write(encodeLine({ id: request.id, ok: false, error: String(error) })),
      );
    };
    socket.on("data", createLineSplitter(onLine, 16 * 1024 * 1024));
  }

  killAll(): void {
    for (const run of this.#live.values()) run.expire(false);
    this.#becomeIdle();
  }

  async #answer(request: KeeperRequest): Promise<KeeperResult> {
    this.#idleSince = performance.now();
    switch (request.op) {
      case "start":
      case "watch":
        return this.#start(request);
      case "stop": {
        await this.#starting.get(request.name);
        const delivered = this.#live.get(request.name)?.stop(request.request) ?? false;
        return { kind: "stop", delivered };
      }
      case "deadlines":
        this.#deadlinesRead = 0;
        this.#readDeadlines();
        return { kind: "done" };
      case "list":
        return { kind: "list", live: [...this.#live.keys(), ...this.#starting.keys()] };
    }
  }

  #start(request: Extract<KeeperRequest, { op: "start" | "watch" }>): Promise<KeeperResult> {
    const { name } = request;
    const running = this.#starting.get(name);
    if (running !== undefined) return running;
    const begun = this.#begin(request).finally(() => this.#starting.delete(name));
    this.#starting.set(name, begun);
    return begun;
  }

  async #begin(request: Extract<KeeperRequest, { op: "start" | "watch" }>): Promise<KeeperResult> {
    const { name } = request;
    const files = attemptFiles(this.#options.files, name);
    const known = await this.#launcher.known(files, this.#live.has(name), request.op);
    if (known !== undefined) return { kind: "start", start: known };
    // Pulling an image may outlast the lease that the request knew; its renewals stand in the file.
    if (Math.max(request.killAtBootMs, this.#deadlineOf(name) ?? 0) <= bootMs()) {
      const message = "the lease ended before the start";
      return { kind: "start", start: { kind: "refused", exitClass: "start_failed", message } };
    }
    const launched =
      request.op === "start"
        ? await this.#launcher.start(name, files)
        : await this.#launcher.watch(name, files, request.engine);
    if (launched.kind === "refused") return { kind: "start", start: launched };
    const { run } = launched;
    this.#live.set(name, run);
    this.#killAt.set(name, this.#deadlineOf(name) ?? request.killAtBootMs);
    void run.done.then((outcome) => {
      this.#live.delete(name);
      this.#killAt.delete(name);
      this.#idleSince = performance.now();
      this.#emit({ kind: "exited", name, outcome });
    });
    const start = { kind: "started", isolation: launched.isolation, bootMs: bootMs() } as const;
    return { kind: "start", start };
  }

  #tick(): void {
    if (this.#live.size === 0 && this.#starting.size === 0) {
      if (performance.now() - this.#idleSince > this.#options.idleMs) this.#becomeIdle();
      return;
    }
    this.#readDeadlines();
    const now = bootMs();
    for (const [name, run] of this.#live) {
      const killAt = this.#killAt.get(name);
      if (killAt === undefined) continue;
      if (now >= killAt) run.expire(false);
      else if (now >= killAt - leaseWarningMs) run.expire(true);
    }
  }

  /** What the deadline file says about an attempt, for those that an earlier keeper had. */
  #deadlineOf(name: string): number | undefined {
    const deadlines = readDeadlines(this.#options.files);
    return deadlines?.bootId === bootId() ? deadlines.killAt[name] : undefined;
  }

  /** The file wins over what the start request said; times of another boot mean nothing. */
  #readDeadlines(): void {
    const { files } = this.#options;
    // Each write makes a new file, so its inode tells more than its time.
    const changed = statSync(files.deadlines, { throwIfNoEntry: false })?.ino ?? 0;
    if (changed === this.#deadlinesRead) return;
    this.#deadlinesRead = changed;
    const deadlines = readDeadlines(files);
    if (deadlines === undefined || deadlines.bootId !== bootId()) return;
    for (const name of this.#live.keys()) {
      const killAt = deadlines.killAt[name];
      if (killAt !== undefined) this.#killAt.set(name, killAt);
    }
  }

  #emit(event: RuntimeEvent): void {
    if (event.kind === "log") {
      if (this.#logEvents.has(event.name)) return;
      // One event for many writes: readers read the file, the event only says that it grew.
      this.#logEvents.add(event.name);
      setTimeout(() => {
        this.#logEvents.delete(event.name);
        this.#send(event);
      }, logEventMs);
      return;
    }
    this.#send(event);
  }

  #send(event: RuntimeEvent): void {
    const line = encodeLine({ event });
    for (const client of this.#clients) {
      // A worker that does not read gets its state from disk when it comes back.
      if (client.writableLength > 8 * 1024 * 1024) client.destroy();
      else client.write(line);
    }
  }
}

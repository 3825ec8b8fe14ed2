import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Stream, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { ElementEnd } from "./array.ts";
import type { ProcessGroup } from "./group.ts";
import { type PipeReader, readPipe } from "./pipes.ts";
import { type RunContext, createLineSplitter, maxTimerMs, oomKills } from "./run.ts";
import type { Sandbox } from "./sandboxes.ts";

/**
 * One lane of an array: a shell that reads an index, runs the element and writes its exit code. The next index is
 * sent only after the element's output was taken from the pipes, so every byte is attributed to its element.
 */
export interface Slot {
  readonly pid: number;
  readonly isolation: readonly string[];
  signal(signal: NodeJS.Signals): boolean;
  kill(): void;
  sweep(): Promise<void>;
  /**
   * Runs elements until `take` has no more (`drained`), the shell died with an element (`died`), or before its
   * first (`broken`).
   */
  run(
    take: () => number | undefined,
    ended: (index: number, end: ElementEnd, code: number) => void,
  ): Promise<"drained" | "died" | "broken">;
}

/** Starts a lane in a sandbox that waits. */
export function startSlot(context: RunContext, sandbox: Sandbox): Slot {
  const { launch } = context;
  const { group } = sandbox;
  const { depth } = sandbox.begin(context.files.script, {
    workdir: context.workdir,
    env: launch.env,
    command: [context.program, ...launch.command.slice(1)],
    how: "lane",
    checkpoints: launch.checkpoints,
  });
  context.memory?.add(group.pid, depth);
  const lane = new Lane(context, sandbox);
  lane.readers = [
    readPipe(sandbox.outFd, (data) => lane.append("stdout", data)),
    readPipe(sandbox.errFd, (data) => lane.append("stderr", data)),
  ];
  return {
    pid: group.pid,
    isolation: sandbox.isolation,
    signal: (signal) => group.signal(signal),
    kill: () => group.kill(),
    sweep: () => group.sweep(),
    run: (take, ended) => lane.run(take, ended),
  };
}

/** The state of a lane between two elements and while one runs. */
class Lane {
  readers: readonly PipeReader[] = [];
  readonly #context: RunContext;
  readonly #group: ProcessGroup;
  readonly #control: Writable;
  #current: number | undefined;
  #timedOut = false;
  #timer: NodeJS.Timeout | undefined;
  #oomSeen: number;

  constructor(context: RunContext, { group, control }: Sandbox) {
    this.#context = context;
    this.#group = group;
    this.#control = control;
    this.#oomSeen = oomKills(context);
  }

  append(stream: "stdout" | "stderr", data: Buffer): void {
    this.#context.log.append({ stream, element: this.#current, data });
    this.#context.onLog();
  }

  async run(
    take: () => number | undefined,
    ended: (index: number, end: ElementEnd, code: number) => void,
  ): Promise<"drained" | "died" | "broken"> {
    let completed = 0;
    const feed = (): void => {
      const index = take();
      if (index === undefined) {
        this.#control.end();
        return;
      }
      this.#begin(index);
    };
    const status = createLineSplitter((line) => {
      const [index, code] = line.split(" ").map(Number);
      if (index !== this.#current || code === undefined) return;
      this.#finish(code, ended);
      completed += 1;
      feed();
    });
    const stdio: readonly (Stream | null | undefined)[] = this.#group.child.stdio;
    stdio[5]?.on("data", status).on("error", () => undefined);
    const onProgress = createLineSplitter(this.#context.onProgress);
    stdio[3]?.on("data", onProgress).on("error", () => undefined);
    feed();
    // `close` comes after the status pipe was read to its end, unlike `exit`.
    const closed = new Promise<void>((done) => this.#group.child.once("close", () => done()));
    const { code } = await this.#group.exited;
    this.#context.memory?.remove(this.#group.pid);
    this.#group.kill();
    // Bounded: a process that left the group may hold the pipe open.
    await Promise.race([closed, sleep(1_000)]);
    clearTimeout(this.#timer);
    const interrupted = this.#current;
    for (const reader of this.readers) {
      reader.drain();
      reader.close();
    }
    if (interrupted === undefined) return "drained";
    if (completed === 0 && code === 125) return "broken";
    // A shell that ends well while an element is under way has not seen its end: nobody can say that it ended well.
    ended(interrupted, this.#judge(code === 0 ? 1 : code), code);
    return "died";
  }

  #begin(index: number): void {
    const { launch } = this.#context;
    this.#current = index;
    this.#timedOut = false;
    if (launch.timeoutMs > 0) {
      this.#timer = setTimeout(() => this.#timeOut(index), Math.min(maxTimerMs, launch.timeoutMs));
    }
    if (launch.checkpoints !== undefined) {
      mkdirSync(join(launch.checkpoints, String(index)), { recursive: true, mode: 0o700 });
    }
    this.#control.write(`${index}\n`);
  }

  #finish(code: number, ended: (index: number, end: ElementEnd, code: number) => void): void {
    clearTimeout(this.#timer);
    for (const reader of this.readers) reader.drain();
    const index = this.#current;
    this.#current = undefined;
    if (index !== undefined) ended(index, this.#judge(code), code);
  }

  #judge(code: number): ElementEnd {
    if (this.#timedOut) return "timeout";
    if (code === 0) return "ok";
    const kills = oomKills(this.#context);
    const oom = kills > this.#oomSeen;
    this.#oomSeen = kills;
    return oom ? "oom" : "userExit";
  }

  #timeOut(index: number): void {
    if (this.#current !== index) return;
    const { launch } = this.#context;
    this.#timedOut = true;
    this.#group.signal(launch.stopSignal);
    this.#timer = setTimeout(() => {
      if (this.#current === index) this.#group.signal("SIGKILL");
    }, launch.graceMs);
  }
}

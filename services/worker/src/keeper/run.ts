import { StringDecoder } from "node:string_decoder";
import type { LogWriter } from "../log/writer.ts";
import type { Launch, Outcome, StopReason, StopRequest } from "../runtime/port.ts";
import type { AttemptCgroup } from "./cgroup.ts";
import type { MemoryWatch } from "./memory-watch.ts";
import type { AttemptFiles } from "./files.ts";
import type { Sandbox } from "./sandboxes.ts";

/** What the keeper gives to one attempt that it runs. */
export interface RunContext {
  readonly launch: Launch;
  readonly files: AttemptFiles;
  /** The attempt's first sandbox; further ones are made in its control groups. */
  readonly sandbox: Sandbox;
  readonly anotherSandbox: () => Promise<Sandbox>;
  readonly cgroup: AttemptCgroup | undefined;
  /** Bounds memory where no control group does. */
  readonly memory: MemoryWatch | undefined;
  /** Absolute program of the launch. */
  readonly program: string;
  readonly workdir: string;
  readonly log: LogWriter;
  readonly onProgress: (line: string) => void;
  readonly onLog: () => void;
  readonly onElements: (ok: number, failed: number) => void;
}

/** The part that containers have too. */
export type AnyRunContext = Omit<
  RunContext,
  "sandbox" | "anotherSandbox" | "cgroup" | "memory" | "program" | "workdir"
>;

/** Processes of the attempt killed so far because of its memory. */
export function oomKills(context: Pick<RunContext, "cgroup" | "memory">): number {
  return (context.cgroup?.oomKills() ?? 0) + (context.memory?.kills ?? 0);
}

/** An attempt in the keeper's hands. */
export interface LiveRun {
  readonly pid: number;
  readonly isolation: readonly string[];
  /** Delivers a stop; false where the attempt has ended already. */
  stop(request: StopRequest): boolean;
  /** The lease is about to end (`soon`: stop signal) or has ended (SIGKILL). */
  expire(soon: boolean): void;
  /** Resolves when nothing of the attempt lives and its log is complete. */
  readonly done: Promise<Outcome>;
}

/** Why and how far a stop has gone. The first cause stays; a later stop can only shorten the grace. */
export interface Stopper {
  readonly cause: "stop" | "timeout" | "lease" | undefined;
  readonly reason: StopReason | undefined;
  begin(
    cause: "stop" | "timeout" | "lease",
    how: { signal: NodeJS.Signals; graceMs: number; reason?: StopReason },
  ): boolean;
  /** No more signals: the attempt has ended. */
  end(): void;
}

/**
 * Signal, then after the grace SIGKILL. A signal that found no process yet is repeated until one is there: a stop
 * that comes during start must not be lost.
 */
export function createStopper(target: {
  signal(signal: NodeJS.Signals): boolean;
  kill(): void;
}): Stopper {
  let cause: "stop" | "timeout" | "lease" | undefined;
  let reason: StopReason | undefined;
  let ended = false;
  let killTimer: NodeJS.Timeout | undefined;
  let retryTimer: NodeJS.Timeout | undefined;
  let killAt = Number.POSITIVE_INFINITY;
  const kill = (): void => {
    clearTimeout(retryTimer);
    if (!ended) target.kill();
  };
  const deliver = (signal: NodeJS.Signals): void => {
    if (ended || target.signal(signal)) return;
    retryTimer = setTimeout(() => deliver(signal), 10);
  };
  return {
    get cause() {
      return cause;
    },
    get reason() {
      return reason;
    },
    begin(newCause, how) {
      if (ended) return false;
      const first = cause === undefined;
      if (first) {
        cause = newCause;
        reason = how.reason;
      }
      const at = performance.now() + how.graceMs;
      if (at < killAt) {
        killAt = at;
        clearTimeout(killTimer);
        if (how.graceMs <= 0) kill();
        else killTimer = setTimeout(kill, how.graceMs);
      }
      if (first && how.graceMs > 0) deliver(how.signal);
      return true;
    },
    end() {
      ended = true;
      clearTimeout(killTimer);
      clearTimeout(retryTimer);
    },
  };
}

/** Splits a byte stream into lines; lines beyond `maxBytes` are dropped whole. */
export function createLineSplitter(
  onLine: (line: string) => void,
  maxBytes = 64 * 1024,
): (data: Buffer) => void {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  return (data) => {
    const lines = (rest + decoder.write(data)).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > maxBytes) rest = "";
    for (const line of lines) if (line !== "" && line.length <= maxBytes) onLine(line);
  };
}

/** Node fires longer timers at once: 24.8 days. */
export const maxTimerMs = 2 ** 31 - 1;

/** From the stop signal of an ending lease to its SIGKILL, in milliseconds: shorter than any renewal interval. */
export const leaseWarningMs = 1_000;

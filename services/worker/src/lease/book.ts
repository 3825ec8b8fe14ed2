import { bootMs } from "../boot-time.ts";
import { type ServerBound, earliestLocal, judgeLease, learn } from "./clock.ts";

/** Readings of the boot clock are this much behind at most. */
const resolutionMs = 10;

/** What a heartbeat's acknowledgement says about leases. Server times in milliseconds since the epoch. */
export interface LeaseAck {
  readonly sentAtMs: number;
  readonly serverTimeMs: number;
  readonly nodeLeaseEndMs: number;
  /** Attempts whose money ends before the node's lease. */
  readonly fundedEndMs: ReadonlyMap<string, number>;
}

/** Until when each attempt may run, in the server's time, and what that means on this machine's clock. */
export interface LeaseBook {
  acknowledge(ack: LeaseAck): void;
  /** An attempt with its lease's first end. */
  add(attempt: string, leaseEndMs: number): void;
  remove(attempt: string): void;
  /** Resolves true once the attempt may start; false where its lease ends or `stop` is aborted before. */
  untilStartable(attempt: string, stop: AbortSignal): Promise<boolean>;
  /** Attempts that must stop now, each with whether it is its money that ends. */
  overdue(): { attempt: string; unfunded: boolean }[];
  /** When the keeper must kill each attempt, in milliseconds since boot. */
  killTimes(): Map<string, number>;
  /** When the keeper must kill one attempt; 0 where it may not run. */
  killTime(attempt: string): number;
}

interface Entry {
  endMs: number;
  unfunded: boolean;
}

/** Makes a book; `marginMs` = time that a stop and its kill may take. */
export function createLeaseBook(options: { marginMs: number; now?: () => number }): LeaseBook {
  const now = options.now ?? bootMs;
  const entries = new Map<string, Entry>();
  const waiting = new Set<() => void>();
  let bound: ServerBound | undefined;
  const judge = (entry: Entry): ReturnType<typeof judgeLease> =>
    judgeLease({
      bound,
      leaseEndMs: entry.endMs,
      marginMs: options.marginMs,
      nowMs: now() + resolutionMs,
    });
  const killTimeOf = (entry: Entry): number =>
    bound === undefined ? 0 : earliestLocal(bound, entry.endMs) - resolutionMs;
  return {
    acknowledge(ack) {
      bound = learn(bound, ack);
      for (const [attempt, entry] of entries) {
        const funded = ack.fundedEndMs.get(attempt);
        entry.unfunded = funded !== undefined && funded < ack.nodeLeaseEndMs;
        entry.endMs = Math.min(ack.nodeLeaseEndMs, funded ?? Number.POSITIVE_INFINITY);
      }
      for (const check of waiting) check();
    },
    add: (attempt, leaseEndMs) => {
      if (!entries.has(attempt)) entries.set(attempt, { endMs: leaseEndMs, unfunded: false });
    },
    remove: (attempt) => void entries.delete(attempt),
    untilStartable: (attempt, stop) =>
      new Promise((resolve) => {
        const settle = (answer: boolean): void => {
          waiting.delete(check);
          stop.removeEventListener("abort", refuse);
          resolve(answer);
        };
        const refuse = (): void => settle(false);
        const check = (): void => {
          const entry = entries.get(attempt);
          if (entry === undefined || stop.aborted) return settle(false);
          const verdict = judge(entry);
          if (verdict === "start") settle(true);
          if (verdict === "stop") settle(false);
        };
        waiting.add(check);
        stop.addEventListener("abort", refuse, { once: true });
        check();
      }),
    overdue: () =>
      [...entries].flatMap(([attempt, entry]) =>
        judge(entry) === "stop" ? [{ attempt, unfunded: entry.unfunded }] : [],
      ),
    killTimes: () =>
      new Map(bound === undefined ? [] : [...entries].map(([a, e]) => [a, killTimeOf(e)] as const)),
    killTime(attempt) {
      const entry = entries.get(attempt);
      return entry === undefined ? 0 : killTimeOf(entry);
    },
  };
}

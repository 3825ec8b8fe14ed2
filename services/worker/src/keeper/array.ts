import { appendFileSync } from "node:fs";
import { bootMs } from "../boot-time.ts";
import { indexesOf, rangesOf } from "../ranges.ts";
import type { ArrayRange, ElementOutcomes, Outcome } from "../runtime/port.ts";
import { type LiveRun, type RunContext, createStopper, leaseWarningMs } from "./run.ts";
import { type Slot, startSlot } from "./slot.ts";

/** How an element ended by itself. */
export type ElementEnd = "ok" | "userExit" | "oom" | "timeout";

const flushMs = 100;
const reportMs = 300;

/**
 * Runs the elements of a range in `slots` lanes. Each lane is one sandbox with a shell that runs element after
 * element, so that an element costs one fork and no sandbox of its own: all elements belong to one task.
 */
export function startArray(context: RunContext, range: ArrayRange): LiveRun {
  const { launch } = context;
  const record = createElementRecord(context);
  const slots = new Set<Slot>();
  const indexes = indexesOf(range.ranges);
  let next = 0;
  let stopping = false;
  let failure = "";
  const stopper = createStopper({
    signal: (signal) => [...slots].map((slot) => slot.signal(signal)).some(Boolean),
    kill: () => slots.forEach((slot) => slot.kill()),
  });
  const takeIndex = (): number | undefined => (stopping ? undefined : indexes[next++]);
  const ended: typeof record.ended = (index, end, code) => {
    // Once a stop was delivered, what runs ends for the stop's reason, whatever its exit code.
    if (!stopping) record.ended(index, end, code);
  };
  const lane = async (first: Slot): Promise<void> => {
    for (let slot = first; ;) {
      slots.add(slot);
      const end = await slot.run(takeIndex, ended);
      slots.delete(slot);
      if (stopping || next >= indexes.length || end === "drained") return;
      if (end === "broken") {
        failure = "the sandbox of an array lane ended before its first element";
        return;
      }
      // An element took its whole lane down (killed, or out of memory): the next one gets a new lane.
      slot = startSlot(context, await context.anotherSandbox());
    }
  };
  const count = Math.max(1, Math.min(range.slots, indexes.length));
  const first = startSlot(context, context.sandbox);
  const others = Array.from({ length: count - 1 }, async () =>
    lane(startSlot(context, await context.anotherSandbox())),
  );
  const finish = async (): Promise<Outcome> => {
    const results = await Promise.allSettled([lane(first), ...others]);
    for (const result of results) {
      if (result.status === "rejected") failure = String(result.reason);
    }
    stopper.end();
    await first.sweep();
    const elements = record.close();
    const cause = stopper.cause ?? (failure === "" ? "exit" : "start");
    return {
      cause,
      exitCode: record.failed() === 0 ? 0 : 1,
      oom: false,
      stopReason: stopper.reason,
      message: failure,
      endedBootMs: bootMs(),
      elements,
    };
  };
  const begin: typeof stopper.begin = (cause, how) => {
    stopping = true;
    return stopper.begin(cause, how);
  };
  return {
    pid: first.pid,
    isolation: first.isolation,
    stop: (request) => begin("stop", request),
    expire: (soon) => {
      begin("lease", { signal: launch.stopSignal, graceMs: soon ? leaseWarningMs : 0 });
    },
    done: finish(),
  };
}

const letters: Readonly<Record<ElementEnd, string>> = {
  ok: "o",
  userExit: "x",
  oom: "m",
  timeout: "t",
};

/** Which elements have ended, in memory and, a little later, on disk. */
function createElementRecord(context: RunContext): {
  ended(index: number, end: ElementEnd, code: number): void;
  failed(): number;
  close(): ElementOutcomes;
} {
  const byEnd: Record<ElementEnd, number[]> = { ok: [], userExit: [], oom: [], timeout: [] };
  let pending = "";
  let reportedAt = 0;
  let failed = 0;
  const flush = (): void => {
    if (pending === "") return;
    appendFileSync(context.files.elements, pending, { mode: 0o600 });
    pending = "";
  };
  const report = (): void => context.onElements(byEnd.ok.length, failed);
  const timer = setInterval(flush, flushMs);
  return {
    failed: () => failed,
    ended(index, end, code) {
      byEnd[end].push(index);
      if (end !== "ok") failed += 1;
      pending += `${index} ${letters[end]} ${code}\n`;
      const now = performance.now();
      if (now - reportedAt < reportMs) return;
      reportedAt = now;
      report();
    },
    close() {
      clearInterval(timer);
      flush();
      report();
      return {
        ok: rangesOf(byEnd.ok),
        userExit: rangesOf(byEnd.userExit),
        oom: rangesOf(byEnd.oom),
        timeout: rangesOf(byEnd.timeout),
      };
    },
  };
}

/** What a dead keeper had recorded of a range; the last line may be torn. */
export function parseElementRecord(text: string): ElementOutcomes {
  const byEnd: Record<ElementEnd, number[]> = { ok: [], userExit: [], oom: [], timeout: [] };
  for (const match of text.matchAll(/^(\d+) ([oxmt]) \d+\n/gm)) {
    const end = (Object.keys(letters) as ElementEnd[]).find((key) => letters[key] === match[2]);
    if (end !== undefined) byEnd[end].push(Number(match[1]));
  }
  return {
    ok: rangesOf(byEnd.ok),
    userExit: rangesOf(byEnd.userExit),
    oom: rangesOf(byEnd.oom),
    timeout: rangesOf(byEnd.timeout),
  };
}

import { reserveStart } from "@fastgpu/scheduling/order/backfill";
import type { StartReservation } from "@fastgpu/scheduling/order/backfill";
import type { QueuePolicy, World } from "./world.ts";

/** How a baseline orders its queue, by the trace's own (for a scheduler unknowable) run times or by submit time. */
type Key = (job: number) => number;

/** What a baseline does once the first job does not fit. */
type Backfill =
  | { readonly kind: "none" }
  /** Any later job that fits may start, looking at most so many jobs past the first. */
  | { readonly kind: "deep"; readonly depth: number }
  /** A later job may start if it delays the first by nothing (EASY; Lifka, JSSPP '95), ends being known exactly. */
  | { readonly kind: "easy" };

/** Settings of {@link simpleQueue}. */
interface SimpleQueueOptions {
  /** Lower goes first; ties by submit time. Fixed while a job waits. */
  readonly key: Key;
  readonly backfill: Backfill;
}

/** Jobs in order, in a sorted array: insertion by bisection. */
class SortedJobs {
  readonly jobs: number[] = [];
  private readonly key: Key;

  constructor(key: Key) {
    this.key = key;
  }

  insert(job: number): void {
    this.jobs.splice(this.position(job), 0, job);
  }

  remove(job: number): void {
    this.jobs.splice(this.position(job), 1);
  }

  /** Keys of waiting jobs do not change, and the index of a job breaks ties: the trace is in submit order. */
  private position(job: number): number {
    const { jobs, key } = this;
    const value = key(job);
    let low = 0;
    let high = jobs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = jobs[middle]!;
      const otherKey = key(other);
      if (otherKey < value || (otherKey === value && other < job)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A queue without preemption. */
export function simpleQueue(world: World, options: SimpleQueueOptions): QueuePolicy {
  const waiting = new SortedJobs(options.key);
  const endsAt = new Map<number, number>();
  const start = (job: number, nowMs: number): boolean => {
    if (!world.pool.place(job)) return false;
    waiting.remove(job);
    world.began(job);
    endsAt.set(job, nowMs + world.jobs[job]!.durationMs);
    return true;
  };
  return {
    tickMs: Number.POSITIVE_INFINITY,
    arrive: (job) => waiting.insert(job),
    end: (job) => {
      endsAt.delete(job);
    },
    plan(nowMs) {
      const { backfill } = options;
      while (waiting.jobs.length > 0 && start(waiting.jobs[0]!, nowMs));
      if (backfill.kind === "none" || waiting.jobs.length < 2) return;
      const fits = backfill.kind === "easy" ? reservation(world, waiting.jobs[0]!, endsAt) : anyJob;
      const depth = backfill.kind === "deep" ? backfill.depth : Number.POSITIVE_INFINITY;
      let passed = 0;
      for (const job of waiting.jobs.slice(1)) {
        if (passed >= depth || world.pool.freeMilli() === 0) return;
        const { gpus, durationMs } = world.jobs[job]!;
        if (fits.may(nowMs + durationMs, gpus * 1000) && start(job, nowMs)) {
          fits.took(nowMs + durationMs, gpus * 1000);
        } else passed++;
      }
    },
  };
}

const anyJob: Pick<StartReservation, "may" | "took"> = { may: () => true, took: () => {} };

function reservation(
  world: World,
  first: number,
  endsAt: ReadonlyMap<number, number>,
): StartReservation {
  return reserveStart({
    needMilli: world.jobs[first]!.gpus * 1000,
    freeMilli: world.pool.freeMilli(),
    running: [...endsAt].map(([job, endMs]) => ({
      endMs,
      gpusMilli: world.jobs[job]!.gpus * 1000,
    })),
  });
}

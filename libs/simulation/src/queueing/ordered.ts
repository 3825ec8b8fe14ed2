import { decide } from "@fastgpu/scheduling/order/decide";
import type { OrderPolicy } from "@fastgpu/scheduling/order/policy";
import { OrderQueue } from "@fastgpu/scheduling/order/queue";
import type { Slot } from "@fastgpu/scheduling/order/jobs";
import type { Candidate, Room } from "@fastgpu/scheduling/order/room";
import type { Pool } from "./pool.ts";
import type { QueuePolicy, World } from "./world.ts";

/** Settings of the shipped order in a simulation. */
export interface OrderedOptions {
  readonly policy: OrderPolicy;
  /** Longest time between two plans while jobs wait, in milliseconds. */
  readonly tickMs: number;
}

/** Time between two refreshes of the history, in milliseconds. */
const refreshMs = 3 * 3_600_000;

/** The shipped order (libs/scheduling/src/order) over a world: each tenant is one queue of weight 1. */
export function orderedPolicy(world: World, options: OrderedOptions): QueuePolicy {
  const tenants = [...new Set(world.jobs.map((job) => job.tenant))].toSorted();
  const leafOf = new Map(tenants.map((tenant, leaf) => [tenant, leaf]));
  const queue = new OrderQueue(
    options.policy,
    tenants.map(() => ({
      parent: -1,
      weight: 1,
      guaranteedMilli: 0,
      limitMilli: Number.POSITIVE_INFINITY,
    })),
  );
  const jobOf: number[] = [];
  const slotOf: number[] = [];
  const room = roomOf(world.pool, jobOf, slotOf);
  let nextRefreshMs = 0;
  const run = (slot: Slot, nowMs: number): void => {
    queue.start(slot, nowMs, world.began(jobOf[slot]!));
    // A simulated job saves its state when asked to stop: only the restore is lost.
    queue.saved(slot, Number.POSITIVE_INFINITY);
  };
  return {
    tickMs: options.tickMs,
    arrive(job, nowMs) {
      const { gpus, submitMs, tenant } = world.jobs[job]!;
      const slot = queue.add(
        {
          leaf: leafOf.get(tenant)!,
          shape: gpus,
          gpusMilli: gpus * 1000,
          priority: 0,
          submitMs,
          attainedGpuMs: 0,
          preemptible: true,
          predictedMs: 0,
          tie: job,
        },
        nowMs,
      );
      jobOf[slot] = job;
      slotOf[job] = slot;
    },
    end(job, nowMs) {
      queue.finish(slotOf[job]!, nowMs);
    },
    plan(nowMs) {
      if (nowMs >= nextRefreshMs) {
        nextRefreshMs = nowMs + refreshMs;
        queue.refresh(nowMs);
      }
      for (const { slot, victims, moves, lane } of decide(queue, room, nowMs)) {
        for (const victim of victims) {
          queue.stop(victim, nowMs, true);
          world.stopped(jobOf[victim]!);
        }
        for (const mover of moves) {
          const inLane = queue.jobs.inLane(mover);
          queue.stop(mover, nowMs, false);
          world.stopped(jobOf[mover]!);
          queue.jobs.setLane(mover, inLane);
          run(mover, nowMs);
        }
        queue.jobs.setLane(slot, lane);
        run(slot, nowMs);
      }
    },
  };
}

/** The pool, with jobs named by their slot in the queue instead of their index in the trace. */
function roomOf(pool: Pool, jobOf: readonly number[], slotOf: readonly number[]): Room {
  const named = (candidates: readonly Candidate[]): readonly Candidate[] =>
    candidates.map((candidate) => ({ ...candidate, slot: jobOf[candidate.slot]! }));
  const room: Room = {
    capacityMilli: pool.capacityMilli,
    freeMilli: () => pool.freeMilli(),
    place: (slot) => pool.place(jobOf[slot]!),
    release: (slot) => pool.release(jobOf[slot]!),
    restore: (slot) => pool.restore(jobOf[slot]!),
    victims: (slot, candidates) =>
      pool.victims(jobOf[slot]!, named(candidates))?.map((job) => slotOf[job]!),
  };
  if (pool.compact === undefined) return room;
  return {
    ...room,
    compact: (slot, movable) =>
      pool.compact!(jobOf[slot]!, () => named(movable()))?.map((job) => slotOf[job]!),
  };
}

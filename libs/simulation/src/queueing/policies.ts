import { defaultOrderPolicy } from "@fastgpu/scheduling/order/policy";
import type { OrderPolicy } from "@fastgpu/scheduling/order/policy";
import { simpleQueue } from "./baselines.ts";
import { orderedPolicy } from "./ordered.ts";
import { preemptiveQueue } from "./preemptive.ts";
import type { QueuePolicy, World } from "./world.ts";

/** A policy that can be put to a world. */
export interface NamedPolicy {
  readonly about: string;
  readonly create: (world: World) => QueuePolicy;
}

/** Time between two plans of a preemptive policy when nothing happens, in milliseconds. */
const tickMs = 300_000;
const hourMs = 3_600_000;
/** A victim of a preemptive baseline has run at least this long, in milliseconds. */
const minRunMs = 600_000;

const submit = (): number => 0;
const duration =
  (world: World) =>
  (job: number): number =>
    world.jobs[job]!.durationMs;

/** log2 of remaining GPU-seconds: what no scheduler knows. */
const remaining =
  (world: World) =>
  (job: number): number => {
    const { durationMs, gpus } = world.jobs[job]!;
    const seconds = ((durationMs - world.attainedMs(job)) * gpus) / 1000;
    return Math.round(1000 * Math.log2(Math.max(1, seconds)));
  };

/**
 * Tiresias-like (Gu et al., NSDI '19): two queues split at a fixed attained service, first come first served within
 * each, a job of the first stops jobs of the second.
 */
const tiresias =
  (world: World, splitGpuHours: number) =>
  (job: number): number => {
    const attained = (world.attainedMs(job) * world.jobs[job]!.gpus) / hourMs;
    return attained < splitGpuHours ? 0 : 1;
  };

/** The policies by name. Those that use run times are oracles, not schedulers. */
export const queuePolicies: Readonly<Record<string, NamedPolicy>> = {
  fifo: {
    about: "first come, first served",
    create: (world) => simpleQueue(world, { key: submit, backfill: { kind: "none" } }),
  },
  "fifo-backfill": {
    about: "first come, first served; any of the next 200 that fits may pass",
    create: (world) => simpleQueue(world, { key: submit, backfill: { kind: "deep", depth: 200 } }),
  },
  "sjf-oracle": {
    about: "shortest job first, run times known; any that fits may pass",
    create: (world) =>
      simpleQueue(world, {
        key: duration(world),
        backfill: { kind: "deep", depth: Number.POSITIVE_INFINITY },
      }),
  },
  "sjf-easy-oracle": {
    about: "shortest job first with EASY backfill, run times known",
    create: (world) => simpleQueue(world, { key: duration(world), backfill: { kind: "easy" } }),
  },
  "remaining-oracle": {
    about: "shortest remaining service first, run times known, the same charges",
    create: (world) =>
      preemptiveQueue(world, {
        key: remaining(world),
        mayStop: (key, runnerKey) => runnerKey - key >= 2_000,
        minRunMs,
        allowance: (job) => 3 + world.attainedMs(job) / (4 * hourMs),
        blocked: 8,
        tickMs,
      }),
  },
  tiresias: {
    about: "Tiresias-like: two queues of attained service, split at 1 GPU-hour",
    create: (world) =>
      preemptiveQueue(world, {
        key: tiresias(world, 1),
        mayStop: (key, runnerKey) => runnerKey > key,
        minRunMs,
        allowance: () => Number.POSITIVE_INFINITY,
        blocked: 8,
        tickMs,
      }),
  },
  "default-bounded-wait": {
    about: "the shipped order, but due after 585 hours",
    create: (world) => ordered(world, { ...defaultOrderPolicy, dueAfterMs: 585 * hourMs }),
  },
  "default-no-history": {
    about: "the shipped order by attained service alone",
    create: (world) => ordered(world, { ...defaultOrderPolicy, historyBoundMd: 0 }),
  },
  default: { about: "the shipped order", create: (world) => ordered(world, defaultOrderPolicy) },
};

/** The shipped order with the given parameters. */
export function ordered(world: World, policy: OrderPolicy): QueuePolicy {
  return orderedPolicy(world, { policy, tickMs });
}

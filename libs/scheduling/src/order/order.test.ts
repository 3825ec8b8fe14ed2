import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import type { Decision, DecideOptions } from "./decide.ts";
import { jobState } from "./jobs.ts";
import type { NewJob, Slot } from "./jobs.ts";
import { checkOrderPolicy, defaultOrderPolicy } from "./policy.ts";
import type { OrderPolicy } from "./policy.ts";
import { OrderQueue } from "./queue.ts";
import { flatVictims } from "./room.ts";
import type { Room } from "./room.ts";
import { waitedMd } from "./score.ts";
import type { ShareNode } from "./shares.ts";

const minute = 60_000;
const hour = 60 * minute;

/** A small cluster where any GPU is as good as another, driven by hand. */
class Bench implements Room {
  readonly queue: OrderQueue;
  readonly capacityMilli: number;
  nowMs = 0;
  readonly preemptedAt = new Map<Slot, number[]>();
  private held = 0;
  private ties = 0;

  constructor(gpus: number, queues: readonly ShareNode[], policy: Partial<OrderPolicy> = {}) {
    this.capacityMilli = gpus * 1000;
    this.queue = new OrderQueue({ ...defaultOrderPolicy, ...policy }, queues);
  }

  freeMilli(): number {
    return this.capacityMilli - this.held;
  }

  place(slot: Slot): boolean {
    const milli = this.queue.jobs.gpusMilli[slot]!;
    if (milli > this.freeMilli()) return false;
    this.held += milli;
    return true;
  }

  release(slot: Slot): void {
    this.held -= this.queue.jobs.gpusMilli[slot]!;
  }

  restore(slot: Slot): boolean {
    return this.place(slot);
  }

  victims(slot: Slot, candidates: Parameters<Room["victims"]>[1]): readonly Slot[] | undefined {
    return flatVictims(this.queue.jobs.gpusMilli[slot]! - this.freeMilli(), candidates);
  }

  add(leaf: number, gpus: number, more: Partial<NewJob> = {}): Slot {
    return this.queue.add(
      {
        leaf,
        shape: gpus,
        gpusMilli: gpus * 1000,
        priority: 0,
        submitMs: this.nowMs,
        attainedGpuMs: 0,
        preemptible: true,
        predictedMs: 0,
        tie: this.ties++,
        ...more,
      },
      this.nowMs,
    );
  }

  cycle(options: DecideOptions = {}): readonly Decision[] {
    const decisions = decide(this.queue, this, this.nowMs, options);
    for (const { slot, victims, lane } of decisions) {
      for (const victim of victims) {
        this.queue.stop(victim, this.nowMs, true);
        this.preemptedAt.set(victim, [...(this.preemptedAt.get(victim) ?? []), this.nowMs]);
      }
      this.queue.jobs.setLane(slot, lane);
      this.queue.start(slot, this.nowMs);
    }
    return decisions;
  }

  end(slot: Slot): void {
    this.release(slot);
    this.queue.remove(slot);
  }

  finish(slot: Slot): void {
    this.release(slot);
    this.queue.finish(slot, this.nowMs);
  }

  running(): readonly Slot[] {
    return [...this.queue.running];
  }

  gpusOf(leaf: number): number {
    return this.queue.tree.allocatedMilli[leaf]! / 1000;
  }
}

const queues = (...weights: number[]): ShareNode[] =>
  weights.map((weight) => ({ parent: -1, weight, guaranteedMilli: 0, limitMilli: Infinity }));

describe("the order", () => {
  test("among equals the earlier submit goes first; what has had less service goes before it", () => {
    const bench = new Bench(1, queues(1));
    const first = bench.add(0, 1, { submitMs: 1 });
    const fresh = bench.add(0, 1, { submitMs: 2 });
    const served = bench.add(0, 1, { submitMs: 0, attainedGpuMs: hour });
    const order: Slot[] = [];
    while (bench.queue.waiting > 0) {
      bench.cycle();
      const [slot] = bench.running();
      order.push(slot!);
      bench.end(slot!);
    }
    expect(order).toEqual([first, fresh, served]);
  });

  test("attained service is the lineage's: a resubmitted task does not pass a new one", () => {
    const bench = new Bench(1, queues(1));
    const resubmitted = bench.add(0, 1, { attainedGpuMs: 10 * hour });
    bench.nowMs = minute;
    const fresh = bench.add(0, 1);
    bench.cycle();
    expect(bench.running()).toEqual([fresh]);
    expect(bench.queue.jobs.state[resubmitted]).toBe(jobState.waiting);
  });

  test("a queue over its share yields to one under it", () => {
    const bench = new Bench(8, queues(1, 1));
    for (let count = 0; count < 20; count++) bench.add(0, 1);
    bench.nowMs = 1;
    for (let count = 0; count < 20; count++) bench.add(1, 1);
    bench.cycle();
    expect([bench.gpusOf(0), bench.gpusOf(1)]).toEqual([4, 4]);
  });

  test("what cannot be stopped is ordered by what it is expected to take", () => {
    const bench = new Bench(1, queues(1));
    bench.add(0, 1, { preemptible: false, predictedMs: 100 * hour });
    bench.nowMs = 1;
    const short = bench.add(0, 1, { preemptible: false, predictedMs: hour });
    bench.cycle();
    expect(bench.running()).toEqual([short]);
  });

  test("a priority class is worth four times the service", () => {
    const bench = new Bench(1, queues(1));
    const low = bench.add(0, 1, { attainedGpuMs: hour });
    const high = bench.add(0, 1, { attainedGpuMs: 3 * hour, priority: 1 });
    bench.cycle();
    expect(bench.running()).toEqual([high]);
    expect(bench.queue.jobs.state[low]).toBe(jobState.waiting);
  });
});

describe("preemption", () => {
  test("a new task stops the one with the most service, once the gap is wide enough", () => {
    const bench = new Bench(2, queues(1));
    const long = bench.add(0, 1, { attainedGpuMs: 50 * hour });
    const longer = bench.add(0, 1, { attainedGpuMs: 90 * hour });
    bench.cycle();
    bench.nowMs = 11 * minute;
    const fresh = bench.add(0, 1);
    expect(bench.cycle()).toEqual([{ slot: fresh, victims: [longer], moves: [], lane: false }]);
    expect(bench.running()).toEqual([long, fresh]);
  });

  test("not before the victim has run ten minutes, nor across a narrow gap", () => {
    const bench = new Bench(1, queues(1));
    const long = bench.add(0, 1, { attainedGpuMs: 50 * hour });
    bench.cycle();
    bench.nowMs = 9 * minute;
    const fresh = bench.add(0, 1);
    bench.cycle();
    expect(bench.running()).toEqual([long]);
    const near = new Bench(1, queues(1));
    // 1.9 times the service of the other: less than the one doubling that it takes.
    const running = near.add(0, 1, { attainedGpuMs: 1.7 * hour });
    near.cycle();
    near.nowMs = 11 * minute;
    near.add(0, 1, { attainedGpuMs: hour });
    near.cycle();
    expect(near.running()).toEqual([running]);
    expect(fresh).toBeGreaterThanOrEqual(0);
  });

  test("least lost work first: who saved lately goes before who did not", () => {
    const bench = new Bench(2, queues(1));
    const saved = bench.add(0, 1, { attainedGpuMs: 50 * hour });
    const unsaved = bench.add(0, 1, { attainedGpuMs: 90 * hour });
    bench.cycle();
    bench.nowMs = 5 * hour;
    bench.queue.saved(saved, bench.nowMs);
    const fresh = bench.add(0, 1);
    expect(bench.cycle()).toEqual([{ slot: fresh, victims: [saved], moves: [], lane: false }]);
    expect(bench.running()).toContain(unsaved);
  });

  test("victims that a wide one makes needless keep their GPUs", () => {
    const bench = new Bench(9, queues(1));
    const narrow = bench.add(0, 1, { attainedGpuMs: 900 * hour });
    const wide = bench.add(0, 8, { attainedGpuMs: 400 * hour });
    bench.cycle();
    bench.nowMs = 11 * minute;
    const fresh = bench.add(0, 8);
    expect(bench.cycle()).toEqual([{ slot: fresh, victims: [wide], moves: [], lane: false }]);
    expect(bench.running()).toContain(narrow);
  });

  test("rather a narrow one goes for a narrow one than a gang that has had somewhat more", () => {
    const victimFor = (attainedGpuMs: number): string => {
      const bench = new Bench(9, queues(1));
      const narrow = bench.add(0, 1, { attainedGpuMs: 100 * hour });
      const gang = bench.add(0, 8, { attainedGpuMs });
      bench.cycle();
      bench.nowMs = 11 * minute;
      bench.add(0, 1);
      const [decision] = bench.cycle();
      return decision?.victims[0] === narrow
        ? "narrow"
        : decision?.victims[0] === gang
          ? "gang"
          : "";
    };
    // 7 GPUs too many are worth log2(8) × 500 = 1500 and the gang's bonus 1800, a single GPU's 500: a factor of 7.
    expect(victimFor(200 * hour)).toBe("narrow");
    expect(victimFor(670 * hour)).toBe("narrow");
    expect(victimFor(720 * hour)).toBe("gang");
  });

  test("the allowance grows with run time: a short task is not stopped for ever", () => {
    const bench = new Bench(1, queues(1));
    const young = bench.add(0, 1, { attainedGpuMs: 1.5 * hour, preemptions: 5 });
    bench.cycle();
    bench.nowMs = 11 * minute;
    bench.add(0, 1);
    bench.cycle();
    expect(bench.running()).toEqual([young]);
    bench.nowMs = 4 * hour;
    bench.cycle();
    expect(bench.running()).not.toEqual([young]);
  });
});

describe("wide gangs", () => {
  test("a wide gang goes before narrower ones of up to 3.5 times less service, twice as wide of 4.3 times", () => {
    const firstOf = (wide: number, wideHours: number, narrow: number): number => {
      const bench = new Bench(16, queues(1), { blockedGroups: 1 });
      bench.add(0, wide, { attainedGpuMs: wideHours * hour });
      bench.add(0, narrow, { attainedGpuMs: 10 * hour });
      return bench.cycle()[0]!.slot;
    };
    expect(firstOf(8, 34, 4)).toBe(0);
    expect(firstOf(8, 36, 4)).toBe(1);
    expect(firstOf(16, 42, 4)).toBe(0);
    expect(firstOf(16, 44, 4)).toBe(1);
    // A single GPU has a bonus of its own.
    expect(firstOf(8, 24, 1)).toBe(0);
    expect(firstOf(8, 25, 1)).toBe(1);
  });

  test("the walk ends after so many blocked groups: what is free is kept together for those ahead", () => {
    const bench = new Bench(8, queues(1), { blockedGroups: 2 });
    const running = bench.add(0, 1, { preemptible: false });
    bench.cycle();
    bench.add(0, 8);
    bench.add(0, 16);
    const narrow = bench.add(0, 1, { attainedGpuMs: 10 * hour });
    bench.nowMs = minute;
    bench.cycle();
    expect(bench.running()).toEqual([running]);
    const open = new Bench(8, queues(1), { blockedGroups: 3 });
    open.add(0, 1, { preemptible: false });
    open.cycle();
    for (const gpus of [8, 16]) open.add(0, gpus);
    open.add(0, 1, { attainedGpuMs: 10 * hour });
    open.cycle();
    expect(open.running()).toHaveLength(2);
    expect(bench.queue.jobs.state[narrow]).toBe(jobState.waiting);
  });
});

describe("waiting", () => {
  const sizeOf = (gpus: number, sinceSubmitMs: number, queuedMs: number): number =>
    waitedMd(defaultOrderPolicy, { sizeMd: 20_000, gpus, sinceSubmitMs, queuedMs });

  test("who is late holds what there are no GPUs for: gangs, the wide ones for less, single GPUs not", () => {
    const { lateAfterMs, lateMd, lateWideMd } = defaultOrderPolicy;
    expect(sizeOf(4, lateAfterMs - 1, 0)).toBe(20_000);
    expect(sizeOf(4, lateAfterMs, 0)).toBe(20_000 + lateMd);
    expect(sizeOf(8, lateAfterMs, 0)).toBe(20_000 + lateWideMd);
    expect(sizeOf(1, lateAfterMs, 0)).toBe(20_000);
  });

  test("a late task lets one with somewhat more service pass: running at once, waiting from the next refresh on", () => {
    const bench = new Bench(4, queues(1), { historyBoundMd: 0 });
    const blocker = bench.add(0, 4, { preemptible: false });
    bench.cycle();
    const late = bench.add(0, 4, { submitMs: -70 * hour, attainedGpuMs: 100 * hour });
    const other = bench.add(0, 4, { attainedGpuMs: 130 * hour });
    // Both have run here: a refresh looks at nobody else.
    bench.finish(blocker);
    for (const slot of [late, other]) {
      bench.queue.start(slot, bench.nowMs);
      bench.queue.stop(slot, bench.nowMs, false);
    }
    const next = (): Slot | undefined =>
      decide(bench.queue, new Rehearsal(bench), bench.nowMs)[0]?.slot;
    expect(next()).toBe(late);
    bench.nowMs = 6 * hour;
    expect(next()).toBe(late);
    bench.queue.refresh(bench.nowMs);
    expect(next()).toBe(other);
  });

  test("who is due goes before all that have had service, and nobody who has had some stops it again", () => {
    const { dueAfterMs } = defaultOrderPolicy;
    const bench = new Bench(8, queues(1), { agedShareMilli: 0 });
    const running = bench.add(0, 8, { attainedGpuMs: 2 * hour });
    bench.cycle();
    const due = bench.add(0, 8, { attainedGpuMs: 900 * hour, queuedMs: dueAfterMs });
    bench.nowMs = hour;
    expect(bench.cycle()).toEqual([{ slot: due, victims: [running], moves: [], lane: false }]);
    bench.nowMs = 2 * hour;
    bench.add(0, 8, { attainedGpuMs: hour });
    bench.nowMs = 3 * hour;
    expect(bench.cycle()).toEqual([]);
    expect(sizeOf(8, dueAfterMs, dueAfterMs - 1)).toBeGreaterThan(20_000);
  });
});

describe("guarantees and limits", () => {
  const owned = (guaranteed: number): ShareNode[] => [
    { parent: -1, weight: 1, guaranteedMilli: guaranteed * 1000, limitMilli: Infinity },
    { parent: -1, weight: 1, guaranteedMilli: 0, limitMilli: Infinity },
  ];

  test("a borrowed guarantee is reclaimed, after the minimum run time and not beyond the guarantee", () => {
    const bench = new Bench(8, owned(6));
    for (let count = 0; count < 8; count++) bench.add(1, 1);
    bench.cycle();
    expect(bench.gpusOf(1)).toBe(8);
    bench.nowMs = minute;
    // With as much service as the others: no gap of scores, only the guarantee speaks for them.
    for (let count = 0; count < 8; count++) bench.add(0, 1, { attainedGpuMs: 90 * hour });
    bench.cycle();
    expect(bench.gpusOf(0)).toBe(0);
    bench.nowMs = 11 * minute;
    bench.cycle();
    expect([bench.gpusOf(0), bench.gpusOf(1)]).toEqual([6, 2]);
  });

  test("what a guarantee holds is not taken by a smaller task of another queue", () => {
    const bench = new Bench(4, owned(4));
    for (let count = 0; count < 4; count++) bench.add(0, 1, { attainedGpuMs: 500 * hour });
    bench.cycle();
    bench.nowMs = hour;
    bench.add(1, 1);
    bench.cycle();
    expect(bench.gpusOf(0)).toBe(4);
  });

  test("a limit is never passed, whatever is added, ended and stopped", () => {
    const limited: ShareNode[] = [
      { parent: -1, weight: 1, guaranteedMilli: 0, limitMilli: 5_000 },
      { parent: 0, weight: 1, guaranteedMilli: 1_000, limitMilli: 3_000 },
      { parent: 0, weight: 2, guaranteedMilli: 0, limitMilli: Infinity },
      { parent: -1, weight: 1, guaranteedMilli: 2_000, limitMilli: Infinity },
    ];
    fc.assert(
      fc.property(fc.array(step([1, 2, 3], [1, 2, 4]), { maxLength: 60 }), (steps) => {
        const bench = new Bench(8, limited);
        for (const one of steps) {
          act(bench, one);
          for (const [at, { limitMilli }] of limited.entries()) {
            expect(bench.queue.tree.allocatedMilli[at]).toBeLessThanOrEqual(limitMilli);
          }
          expect(bench.freeMilli()).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });
});

/** One thing that happens to a bench: time passes, a job comes, or one ends; then a cycle. */
interface Step {
  readonly afterMs: number;
  readonly add:
    | {
        readonly leaf: number;
        readonly gpus: number;
        readonly attained: number;
        readonly preemptible: boolean;
      }
    | undefined;
  readonly end: number | undefined;
}

function step(leaves: readonly number[], widths: readonly number[]): fc.Arbitrary<Step> {
  return fc.record({
    afterMs: fc.constantFrom(1_000, 3 * minute, 11 * minute, 2 * hour),
    add: fc.option(
      fc.record({
        leaf: fc.constantFrom(...leaves),
        gpus: fc.constantFrom(...widths),
        attained: fc.constantFrom(0, hour, 40 * hour, 900 * hour),
        preemptible: fc.boolean(),
      }),
      { nil: undefined, freq: 4 },
    ),
    end: fc.option(fc.nat({ max: 7 }), { nil: undefined }),
  });
}

function act(bench: Bench, { afterMs, add, end }: Step): readonly Decision[] {
  bench.nowMs += afterMs;
  const running = bench.running();
  if (end !== undefined && running.length > 0) bench.finish(running[end % running.length]!);
  if (add !== undefined) {
    bench.add(add.leaf, add.gpus, {
      attainedGpuMs: add.attained,
      preemptible: add.preemptible,
    });
  }
  // What ended tells the order something: the promises hold with ranks as they change.
  if (afterMs > hour) bench.queue.refresh(bench.nowMs);
  return bench.cycle();
}

describe("promises over random queues", () => {
  const steps = fc.array(step([0, 1, 2], [1, 2, 4, 8]), { minLength: 10, maxLength: 80 });
  /** Tasks become late and due within the steps. */
  const soon: Partial<OrderPolicy> = { lateAfterMs: hour, dueAfterMs: 4 * hour };

  test("no cycle of preemption: at one instant plans come to rest, nobody is both started and stopped, and each stop is paid for by ten minutes of run", () => {
    fc.assert(
      fc.property(steps, fc.constantFrom({}, soon), (list, policy) => {
        const bench = new Bench(8, queues(1, 2, 1), policy);
        for (const one of list) {
          const before = new Map(
            bench.running().map((slot) => [slot, bench.queue.jobs.sinceMs[slot]!] as const),
          );
          const started = new Set<Slot>();
          let decisions = act(bench, one);
          for (let plans = 0; decisions.length > 0; plans++) {
            expect(plans).toBeLessThan(list.length);
            for (const { slot, victims } of decisions) {
              expect(started.has(slot)).toBe(false);
              started.add(slot);
              for (const victim of victims) {
                expect(started.has(victim)).toBe(false);
                expect(bench.nowMs - before.get(victim)!).toBeGreaterThanOrEqual(
                  defaultOrderPolicy.minRunMs,
                );
              }
            }
            decisions = bench.cycle();
          }
        }
      }),
    );
  });

  test("what cannot resume is never stopped", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const bench = new Bench(8, queues(1, 2, 1));
        for (const one of list) {
          const fixed = bench.running().filter((slot) => !bench.queue.jobs.preemptible(slot));
          const victims = act(bench, one).flatMap((decision) => decision.victims);
          for (const slot of fixed) expect(victims).not.toContain(slot);
        }
      }),
    );
  });

  test("the same input gives the same plan, and deciding changes nothing in the queue", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const one = new Bench(8, queues(1, 2, 1));
        const two = new Bench(8, queues(1, 2, 1));
        for (const each of list) {
          // A plan thrown away on one side must leave no trace.
          const rehearsal = new Rehearsal(two);
          decide(two.queue, rehearsal, two.nowMs + each.afterMs);
          expect(act(two, each)).toEqual(act(one, each));
        }
      }),
    );
  });

  test("a gang is whole or absent: what runs holds exactly its GPUs, and they fit", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const bench = new Bench(8, queues(1, 2, 1));
        for (const one of list) {
          act(bench, one);
          const { gpusMilli } = bench.queue.jobs;
          const sum = bench.running().reduce((total, slot) => total + gpusMilli[slot]!, 0);
          expect(bench.capacityMilli - bench.freeMilli()).toBe(sum);
          expect(sum).toBeLessThanOrEqual(bench.capacityMilli);
        }
      }),
    );
  });
});

/** A copy of a bench's room to plan on without effect. */
class Rehearsal implements Room {
  readonly capacityMilli: number;
  private free: number;
  private readonly bench: Bench;

  constructor(bench: Bench) {
    this.bench = bench;
    this.capacityMilli = bench.capacityMilli;
    this.free = bench.freeMilli();
  }

  freeMilli(): number {
    return this.free;
  }

  place(slot: Slot): boolean {
    const milli = this.bench.queue.jobs.gpusMilli[slot]!;
    if (milli > this.free) return false;
    this.free -= milli;
    return true;
  }

  release(slot: Slot): void {
    this.free += this.bench.queue.jobs.gpusMilli[slot]!;
  }

  restore(slot: Slot): boolean {
    return this.place(slot);
  }

  victims(slot: Slot, candidates: Parameters<Room["victims"]>[1]): readonly Slot[] | undefined {
    return flatVictims(this.bench.queue.jobs.gpusMilli[slot]! - this.free, candidates);
  }
}

describe("over time", () => {
  test("fair shares converge: once every task of the start has ended, each queue is within one gang of its share", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
        (weights, width) => {
          const gpus = 64;
          const bench = new Bench(gpus, queues(...weights));
          // The first queue takes everything; then all have more demand than they can get.
          for (let count = 0; count < gpus / width; count++) bench.add(0, width);
          bench.cycle();
          const start = bench.running();
          for (const leaf of weights.keys()) {
            for (let count = 0; count < 2 * gpus; count++) bench.add(leaf, width);
          }
          for (const slot of start) {
            bench.nowMs += 1_000;
            bench.end(slot);
            bench.cycle({ preempt: false });
          }
          const whole = weights.reduce((sum, weight) => sum + weight, 0);
          for (const [leaf, weight] of weights.entries()) {
            const fair = (gpus * weight) / whole;
            expect(Math.abs(bench.gpusOf(leaf) - fair)).toBeLessThanOrEqual(2 * width);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test("nothing starves: against an endless stream of small tasks, a task with much service starts within the aged bound", () => {
    const bench = new Bench(8, queues(1));
    const starved = bench.add(0, 8, { attainedGpuMs: 10_000 * hour });
    const bound = defaultOrderPolicy.agedAfterMs + defaultOrderPolicy.minRunMs + hour;
    let startedMs: number | undefined;
    for (; bench.nowMs <= bound && startedMs === undefined; bench.nowMs += 30 * minute) {
      for (const slot of bench.running()) bench.end(slot);
      for (let count = 0; count < 16; count++) bench.add(0, 1);
      bench.cycle();
      if (bench.queue.running.has(starved)) startedMs = bench.nowMs;
    }
    expect(startedMs).toBeDefined();
    expect(bench.queue.jobs.inLane(starved)).toBe(true);
  });

  test("in the aged lane a task is no victim", () => {
    const bench = new Bench(1, queues(1), { agedAfterMs: hour });
    const old = bench.add(0, 1, { attainedGpuMs: 900 * hour, queuedMs: 2 * hour });
    bench.cycle();
    expect(bench.queue.jobs.inLane(old)).toBe(true);
    bench.nowMs = 10 * hour;
    bench.add(0, 1);
    bench.cycle();
    expect(bench.running()).toEqual([old]);
  });
});

test("with expected ends, nothing that starts past a blocked gang delays its reserved start", () => {
  const ends = new Map<Slot, number>();
  const bench = new Bench(8, queues(1));
  const running = bench.add(0, 6, { preemptible: false });
  ends.set(running, 10 * hour);
  bench.cycle();
  const gang = bench.add(0, 8, { preemptible: false });
  const long = bench.add(0, 1, { preemptible: false, submitMs: 1 });
  const short = bench.add(0, 2, { preemptible: false, submitMs: 2 });
  ends
    .set(gang, 20 * hour)
    .set(long, 11 * hour)
    .set(short, 9 * hour);
  bench.cycle({ expectedEndMs: (slot) => ends.get(slot)! });
  expect(bench.running()).toEqual([running, short]);
});

test("a policy is checked field by field", () => {
  expect(checkOrderPolicy(defaultOrderPolicy)).toBeUndefined();
  expect(checkOrderPolicy({ ...defaultOrderPolicy, gapMd: 0 })?.field).toBe("gapMd");
  expect(checkOrderPolicy({ ...defaultOrderPolicy, minRunMs: Number.NaN })?.field).toBe("minRunMs");
});

test("states are kept: only what waits starts, only what runs stops", () => {
  const bench = new Bench(2, queues(1));
  const slot = bench.add(0, 1);
  expect(() => bench.queue.stop(slot, 0, true)).toThrow(RangeError);
  bench.queue.promise(slot);
  expect(bench.cycle()).toEqual([]);
  bench.queue.wait(slot, 5);
  bench.cycle();
  expect(() => bench.queue.start(slot, 0)).toThrow(RangeError);
  bench.queue.leave(slot);
  expect(bench.queue.mayBeVictim(slot, 100 * hour)).toBe(false);
  bench.end(slot);
  expect(() => bench.queue.remove(slot)).toThrow(RangeError);
  expect(() => bench.add(9, 1)).toThrow(RangeError);
});

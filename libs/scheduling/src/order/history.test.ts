import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ServiceHistory } from "./history.ts";
import type { Life } from "./history.ts";
import { OrderQueue } from "./queue.ts";
import { defaultOrderPolicy } from "./policy.ts";
import { sizeMd } from "./score.ts";

const hour = 3_600_000;
const options = defaultOrderPolicy;

/** Ranks after a refresh of tasks that have run so long, in hours of run time. */
function ranks(history: ServiceHistory, attained: ReadonlyMap<Life, number>): number[] {
  history.refresh(attained);
  return [...attained.keys()].map((life) => life.rankMs! / hour);
}

/** A task of queue 0 on 8 GPUs that ended after so many hours. */
function ended(history: ServiceHistory, hours: number, gpus = 8, leaf = 0): void {
  history.end(history.enter(leaf, gpus), hours * hour);
}

describe("ranks from history", () => {
  test("without history, what has run longer ranks behind", () => {
    const history = new ServiceHistory(options);
    const lives = [1, 10, 100].map((hours) => [history.enter(0, 8), hours * hour] as const);
    const [one, ten, hundred] = ranks(history, new Map(lives)) as [number, number, number];
    expect(one).toBeLessThan(ten);
    expect(ten).toBeLessThan(hundred);
  });

  test("neighbours that ended tell when a task is about to end", () => {
    const history = new ServiceHistory(options);
    for (let count = 0; count < 6; count++) ended(history, 100);
    const early = history.enter(0, 8);
    const late = history.enter(0, 8);
    const [atTen, atNinety] = ranks(
      history,
      new Map([
        [early, 10 * hour],
        [late, 95 * hour],
      ]),
    ) as [number, number];
    expect(atNinety).toBeLessThan(atTen / 4);
  });

  test("one that runs on and on is a scout: those beside it rank behind where it has outlived them", () => {
    const rankBeside = (scoutHours: number): number => {
      const history = new ServiceHistory(options);
      const life = history.enter(0, 8);
      const scout = history.enter(0, 8);
      return ranks(
        history,
        new Map([
          [life, 5 * hour],
          [scout, scoutHours * hour],
        ]),
      )[0]!;
    };
    expect(rankBeside(80)).toBeGreaterThan(1.5 * rankBeside(5));
  });

  test("those who started close by count more than those long before, other widths less than the same", () => {
    const rankAfter = (gpus: number, between: number): number => {
      const history = new ServiceHistory({ ...options, priorTasks: 1e6 });
      for (let count = 0; count < 5; count++) ended(history, 12, gpus);
      for (let count = 0; count < between; count++) ended(history, 1, 8);
      return ranks(history, new Map([[history.enter(0, 8), 10 * hour]]))[0]!;
    };
    expect(rankAfter(8, 0)).toBeLessThan(rankAfter(8, 12));
    expect(rankAfter(8, 0)).toBeLessThan(rankAfter(4, 0));
    const deaf = { ...options, neighbourWidthMilli: 0 };
    const history = new ServiceHistory(deaf);
    ended(history, 12, 4);
    const alone = new ServiceHistory(deaf);
    expect(ranks(history, new Map([[history.enter(0, 8), 10 * hour]]))).toEqual(
      ranks(alone, new Map([[alone.enter(0, 8), 10 * hour]])),
    );
  });

  test("a queue without own history leans on the fleet's", () => {
    const rank = (hours: number): number => {
      const history = new ServiceHistory(options);
      for (let count = 0; count < 200; count++) ended(history, hours, 8, 1);
      return ranks(history, new Map([[history.enter(0, 8), 10 * hour]]))[0]!;
    };
    expect(rank(11)).toBeLessThan(rank(40));
  });

  test("ranks are finite and positive, whatever has been seen", () => {
    const run = fc.record({
      leaf: fc.nat({ max: 1 }),
      gpus: fc.constantFrom(1, 2, 4, 8, 32),
      runMs: fc.integer({ min: 0, max: 4_000 * hour }),
      ends: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 60 }), (runs) => {
        const history = new ServiceHistory(options);
        const alive = new Map<Life, number>();
        for (const { leaf, gpus, runMs, ends } of runs) {
          const life = history.enter(leaf, gpus);
          if (ends) history.end(life, runMs);
          else alive.set(life, runMs);
        }
        for (const rank of ranks(history, alive)) {
          expect(rank).toBeGreaterThan(0);
          expect(rank).toBeLessThan(Number.POSITIVE_INFINITY);
        }
      }),
    );
  });
});

describe("in the order", () => {
  test("history bends the size by its bound and no further", () => {
    const size = (rankMs: number | undefined): number =>
      sizeMd(options, { attainedGpuMs: 64 * hour, gpus: 1, rankMs });
    const plain = size(undefined);
    expect(size(64 * hour)).toBe(plain);
    expect(size(32 * hour)).toBe(plain - 1_000);
    expect(size(1)).toBe(plain - options.historyBoundMd);
    expect(size(1e15)).toBe(plain + options.historyBoundMd);
  });

  test("a refresh puts a waiting task whose neighbours have ended at its age before one with less service", () => {
    const queue = new OrderQueue(options, [
      { parent: -1, weight: 1, guaranteedMilli: 0, limitMilli: Number.POSITIVE_INFINITY },
    ]);
    let tie = 0;
    const add = (): number =>
      queue.add(
        {
          leaf: 0,
          shape: 8,
          gpusMilli: 8_000,
          priority: 0,
          submitMs: tie,
          attainedGpuMs: 0,
          preemptible: true,
          predictedMs: 0,
          tie: tie++,
        },
        0,
      );
    const batch = Array.from({ length: 8 }, add);
    for (const slot of batch) queue.start(slot, 0);
    const [long, short, ...scouts] = batch as [number, number, ...number[]];
    queue.stop(short, 40 * hour, true);
    queue.stop(long, 98 * hour, true);
    const heap = queue.groups[0]!.heap;
    expect(heap.peek()).toBe(short);
    for (const slot of scouts) queue.finish(slot, 100 * hour);
    queue.refresh(100 * hour);
    expect(heap.peek()).toBe(long);
    expect(queue.waiting).toBe(2);
  });
});

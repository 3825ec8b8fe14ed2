import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { defaultOrderPolicy } from "@fastgpu/scheduling/order/policy";
import { EventHeap } from "./event-heap.ts";
import { describeProblem } from "./openb/csv.ts";
import { readPhilly } from "./philly/trace.ts";
import type { SimJob } from "./queueing/job.ts";
import { ordered, queuePolicies } from "./queueing/policies.ts";
import { FlatPool, NodePool } from "./queueing/pool.ts";
import { replay } from "./queueing/replay.ts";
import { summarize } from "./queueing/summary.ts";
import { World } from "./queueing/world.ts";
import { renderQueueReport } from "./report/queue-report.ts";
import { syntheticJobs } from "./synthetic.ts";
import { VirtualClock } from "./virtual-clock.ts";

const hour = 3_600_000;
const job = (submitMs: number, durationMs: number, gpus: number, tenant = "a"): SimJob => ({
  submitMs,
  durationMs,
  gpus,
  tenant,
});

describe("time", () => {
  test("events come out by time, those of one time in the order they were added, cancelled ones never", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat({ max: 5 }), fc.boolean())), (entries) => {
        const heap = new EventHeap<number>();
        const handles = entries.map(([atMs], index) => heap.add(atMs, index));
        for (const [index, [, cancelled]] of entries.entries()) {
          if (cancelled) heap.cancel(handles[index]!);
        }
        const expected = entries
          .map(([atMs, cancelled], event) => ({ atMs, cancelled, event }))
          .filter(({ cancelled }) => !cancelled)
          .toSorted((a, b) => a.atMs - b.atMs || a.event - b.event)
          .map(({ event }) => event);
        expect(heap.size).toBe(expected.length);
        const popped: number[] = [];
        for (let next = heap.pop(); next !== undefined; next = heap.pop()) popped.push(next.event);
        expect(popped).toEqual(expected);
      }),
    );
  });

  test("the clock runs forward only", () => {
    const clock = new VirtualClock(5);
    clock.advanceTo(7);
    expect(clock.nowMs()).toBe(7);
    expect(() => clock.advanceTo(6)).toThrow(RangeError);
  });
});

describe("the Philly reader", () => {
  const header = "timestamp,duration,num_gpus,gpu_time,cluster";

  test("reads jobs by submit time", () => {
    const text = `${header}\n2017-10-09 07:01:56,66.25,1,66.0,b\n2017-10-09T07:01:55.25Z,2951.0,8.0,0,a\n`;
    expect(readPhilly("t.csv", text)).toEqual({
      kind: "ok",
      rows: [
        job(Date.UTC(2017, 9, 9, 7, 1, 55), 2_951_000, 8, "a"),
        job(Date.UTC(2017, 9, 9, 7, 1, 56), 66_250, 1, "b"),
      ],
    });
  });

  test.each([
    [
      "2017-02-30 07:01:55,1,1,1,a",
      't.csv:2: column "timestamp": "2017-02-30 07:01:55" is not a time of the calendar',
    ],
    ["soon,1,1,1,a", 't.csv:2: column "timestamp": "soon" is not a time like 2017-10-09 07:01:55'],
    ["2017-10-09 07:01:55,-4,1,1,a", 't.csv:2: column "duration": -4 is not in'],
    [
      "2017-10-09 07:01:55,1e3,1,1,a",
      't.csv:2: column "duration": "1e3" is not a number of seconds',
    ],
    ["2017-10-09 07:01:55,4,0,1,a", 't.csv:2: column "num_gpus": 0 is not in'],
    ["2017-10-09 07:01:55,4,x,1,a", 't.csv:2: column "num_gpus": "x" is not a whole number'],
    ["2017-10-09 07:01:55,4,1,1,", 't.csv:2: column "cluster": is empty'],
    ["2017-10-09 07:01:55,4,1", 't.csv:2: column "gpu_time": 3 fields, expected 5'],
  ])("refuses %s", (line, problem) => {
    const result = readPhilly("t.csv", `${header}\n${line}\n`);
    expect(result.kind).toBe("bad");
    if (result.kind === "bad") expect(describeProblem(result)).toContain(problem);
  });
});

describe("pools", () => {
  test("GPUs are never given twice, a gang is whole or absent, and what is released can be restored", () => {
    const widths = [1, 2, 4, 8, 12, 16];
    const operations = fc.array(fc.tuple(fc.nat({ max: 19 }), fc.boolean()), { maxLength: 80 });
    for (const gpusPerNode of [0, 8]) {
      fc.assert(
        fc.property(operations, (list) => {
          const gpusOf = (index: number): number => widths[index % widths.length]!;
          const pool =
            gpusPerNode === 0
              ? new FlatPool(32, gpusOf)
              : new NodePool({ gpus: 32, gpusPerNode, gpusOf });
          const held = new Set<number>();
          for (const [index, back] of list) {
            if (!held.has(index)) {
              if (pool.place(index)) held.add(index);
            } else {
              pool.release(index);
              if (back) expect(pool.restore(index)).toBe(true);
              else held.delete(index);
            }
            const sum = [...held].reduce((total, one) => total + gpusOf(one), 0);
            expect(pool.freeMilli()).toBe((32 - sum) * 1000);
            expect(sum).toBeLessThanOrEqual(32);
          }
        }),
      );
    }
  });

  test("a job that fits in a node is not spread over two; moving one together makes room", () => {
    const gpus = [4, 4, 8, 4];
    const pool = new NodePool({ gpus: 16, gpusPerNode: 8, gpusOf: (index) => gpus[index]! });
    pool.place(0);
    pool.place(1);
    pool.place(3);
    pool.release(1);
    expect(pool.freeMilli()).toBe(8_000);
    expect(pool.place(2)).toBe(false);
    const movable = [0, 3].map((slot) => ({ slot, gpusMilli: 4_000, lossGpuMs: 1, scoreMd: 0 }));
    expect(pool.compact(2, () => movable)).toHaveLength(1);
    expect(pool.freeMilli()).toBe(0);
  });

  test("victims are sought on the node where that loses least", () => {
    const gpus = [8, 4, 4, 8];
    const pool = new NodePool({ gpus: 16, gpusPerNode: 8, gpusOf: (index) => gpus[index]! });
    for (const index of [0, 1, 2]) pool.place(index);
    const candidates = [0, 1, 2].map((slot) => ({
      slot,
      gpusMilli: gpus[slot]! * 1000,
      lossGpuMs: slot === 2 ? 1_000_000 : 1_000,
      scoreMd: 0,
    }));
    expect(pool.victims(3, candidates)).toEqual([0]);
    expect(pool.victims(3, candidates.slice(1, 2))).toBeUndefined();
  });
});

describe("a world", () => {
  test("each preemption costs the restore, and no work is lost or done twice", () => {
    const jobs = [job(0, 10 * hour, 1), job(2 * hour, hour, 1)];
    const { summary, chargedGpuHours } = replay({
      jobs,
      gpus: 1,
      gpusPerNode: 0,
      policy: queuePolicies["default"]!,
    });
    expect(summary.preemptions).toBe(1);
    expect(chargedGpuHours).toBeCloseTo(120 / 3600, 9);
    // The short one runs at once, the long one ends after both and one restore.
    expect(summary.meanHours).toBeCloseTo((1 + 11 + 120 / 3600) / 2, 6);
  });

  test.each(Object.keys(queuePolicies))(
    "%s ends every job, never before its run time, the same way each time",
    (name) => {
      const jobs = syntheticJobs({ count: 400, seed: 7, meanGapMs: 60_000 });
      for (const gpusPerNode of [0, 8]) {
        const run = () => replay({ jobs, gpus: 32, gpusPerNode, policy: queuePolicies[name]! });
        const first = run();
        expect(first.summary.jobs).toBe(400);
        expect(run()).toEqual(first);
        for (const sample of first.samples) {
          expect(sample.utilisation).toBeGreaterThanOrEqual(0);
          expect(sample.utilisation).toBeLessThanOrEqual(1);
        }
      }
    },
  );

  test("a job takes at least its run time and its restores, and the pool is empty at the end", () => {
    const jobs = syntheticJobs({ count: 300, seed: 3, meanGapMs: 30_000 });
    const gpusOf = (index: number): number => jobs[index]!.gpus;
    const world = new World({ jobs, pool: new FlatPool(16, gpusOf), restoreChargeMs: 120_000 });
    world.run(ordered(world, defaultOrderPolicy));
    for (const [index, { submitMs, durationMs }] of jobs.entries()) {
      const { endMs, preemptions } = world.outcomes[index]!;
      expect(endMs - submitMs).toBeGreaterThanOrEqual(durationMs + preemptions * 120_000);
    }
    expect(world.pool.freeMilli()).toBe(16_000);
    expect(world.waiting).toBe(0);
  });

  test("against first come first served, the shipped order shortens the mean of an overloaded pool", () => {
    const jobs = syntheticJobs({ count: 1_000, seed: 11, meanGapMs: 60_000 });
    const mean = (name: string): number =>
      replay({ jobs, gpus: 32, gpusPerNode: 0, policy: queuePolicies[name]! }).summary.meanHours;
    expect(mean("default")).toBeLessThan(mean("fifo") / 2);
  });
});

test("a summary counts the wait beyond the run time, and compares tenants by bounded slowdown", () => {
  const jobs = [job(0, hour, 1, "a"), job(0, hour, 8, "b")];
  const outcomes = [
    { endMs: hour, firstStartMs: 0, preemptions: 1 },
    { endMs: 3 * hour, firstStartMs: hour / 2, preemptions: 1 },
  ];
  expect(summarize(jobs, outcomes)).toMatchObject({
    meanHours: 2,
    longestToStartHours: 0.5,
    longestWaitHours: 2,
    tenantRatio: 3,
    wideMeanHours: 3,
    preemptions: 2,
  });
});

test("the report is one page without scripts or links, and shows names as text", () => {
  const jobs = syntheticJobs({ count: 200, seed: 5 });
  const result = replay({ jobs, gpus: 16, gpusPerNode: 8, policy: queuePolicies["default"]! });
  const page = renderQueueReport({ title: "A & B", runs: [{ name: "<b>run</b>", result }] });
  expect(page).toContain("A &amp; B");
  expect(page).not.toContain("<b>run");
  expect(page).not.toMatch(/<script|https?:\/\//);
  for (const title of ["Utilisation", "Waiting", "Fairness", "Fragmentation"]) {
    expect(page).toContain(`<h2>${title}</h2>`);
  }
  expect(page.match(/<svg/g)).toHaveLength(5);
});

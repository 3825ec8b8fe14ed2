import { describe, expect, test } from "vitest";
import { withLease } from "../explain/lease.ts";
import type { AttemptId } from "@fastgpu/domain/ids";
import type { PlanNode, PlanTask } from "../plan.ts";
import { aNode, aTask, gpuId } from "../scene.ts";
import { defaultOrderPolicy as options } from "./policy.ts";
import { Ranks, type PastTask } from "./ranks.ts";

const hour = 3_600_000;

const past = (ranHours: number, of: Partial<PastTask> = {}): PastTask => ({
  project: "proj-x",
  gpus: 8,
  submittedMs: 0,
  ranMs: ranHours * hour,
  ...of,
});

/** A task on 8 GPUs that has run so many hours and waits again. */
function stopped(id: string, ranHours: number, over: Parameters<typeof aTask>[1] = {}): PlanTask {
  const attainedGpuMs = ranHours * 8 * hour;
  return aTask(id, { demand: { gpuCount: 8 }, preemptible: true, attainedGpuMs, ...over });
}

/** Ranks in hours of run time, by task. */
function ranked(
  ended: readonly PastTask[],
  tasks: readonly PlanTask[],
  nodes: readonly PlanNode[] = [],
): Record<string, number> {
  const ranks = new Ranks();
  for (const task of ended) ranks.observe(task);
  ranks.renew({ nodes, tasks }, { nowMs: 100 * hour, options });
  return Object.fromEntries(ranks.plan().map(({ id, rankMs }) => [id.slice(5), rankMs / hour]));
}

describe("ranks for the planner's state", () => {
  test("say of a task that its neighbours have ended at its age, or that they went on", () => {
    const ended = Array.from({ length: 6 }, () => past(10));
    const ranks = ranked(ended, [stopped("early", 1), stopped("late", 9.5)]);
    expect(ranks["late"]).toBeLessThan(ranks["early"]! / 4);
    const scout = stopped("scout", 80);
    expect(ranked([], [stopped("t", 5), scout])["t"]).toBeGreaterThan(
      1.5 * ranked([], [stopped("t", 5)])["t"]!,
    );
  });

  test("go by neighbours in the order of their submit, whoever was heard of first", () => {
    const near = Array.from({ length: 6 }, (_, at) => past(10, { submittedMs: 50 * hour + at }));
    const far = Array.from({ length: 60 }, (_, at) => past(99, { submittedMs: at }));
    const task = stopped("t", 9.5, { submittedMs: 50 * hour });
    const ranks = ranked([...near, ...far], [task]);
    expect(ranks).toEqual(ranked([...far.toReversed(), ...near.toReversed()], [task]));
    expect(ranks["t"]).toBeLessThan(ranked(far, [task])["t"]! / 4);
  });

  test("nobody's run times count for another project", () => {
    const theirs = Array.from({ length: 20 }, () => past(10, { project: "proj-y" }));
    expect(ranked(theirs, [stopped("t", 9.5)])).toEqual(ranked([], [stopped("t", 9.5)]));
  });

  test("a running gang counts with all its members and all its attempts", () => {
    const gang = aTask("g", {
      ...{ replicas: 2, demand: { gpuCount: 4 }, preemptible: true },
      attainedGpuMs: 8 * 4 * hour,
    });
    const attempt = "att-1" as AttemptId;
    const nodes = ["n", "m"].map((name, member) => {
      const gpus = [0, 1, 2, 3].map((at) => gpuId(name, at));
      const at = { gpus, part: undefined, nowMs: 95 * hour, attempt, member };
      const node = withLease(aNode(name, 4), gang, at);
      const running = node.running.map((each) => ({ ...each, runningSinceMs: 95.5 * hour }));
      return { ...node, running };
    });
    const same = ranked([past(9)], [stopped("g", 8.5)]);
    expect(ranked([past(9)], [], nodes)).toEqual(same);
  });

  test("are of what has run and can be stopped: of no array, and of nothing without GPUs", () => {
    const tasks = [
      stopped("fresh", 0),
      stopped("rigid", 3, { preemptible: false }),
      stopped("array", 3, { array: { pending: 4, leasesLeft: 2 } }),
      stopped("cores", 3, { demand: { gpuCount: 0 } }),
      stopped("one", 3),
    ];
    expect(Object.keys(ranked([], tasks))).toEqual(["one"]);
  });

  test("only the last tasks of the last projects are remembered", () => {
    const old = Array.from({ length: 3_000 }, () => past(99));
    const last = Array.from({ length: 512 }, () => past(10));
    const task = stopped("t", 9.5);
    expect(ranked([...old, ...last], [task])).toEqual(ranked(last, [task]));
    const others = Array.from({ length: 512 }, (_, at) => past(10, { project: `proj-${at}` }));
    expect(ranked([...last, ...others], [task])).toEqual(ranked([], [task]));
  });

  test("the same list until they are renewed", () => {
    const ranks = new Ranks();
    ranks.renew({ nodes: [], tasks: [stopped("t", 1)] }, { nowMs: 0, options });
    const list = ranks.plan();
    ranks.observe(past(2));
    expect(ranks.plan()).toBe(list);
    ranks.renew({ nodes: [], tasks: [stopped("t", 1)] }, { nowMs: 0, options });
    expect(ranks.plan()).not.toBe(list);
  });
});

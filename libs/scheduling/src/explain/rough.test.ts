import type { AttemptId } from "@fastgpu/domain/ids";
import { describe, expect, test } from "vitest";
import type { PlanNode, PlanState, PlanTask } from "../plan.ts";
import { aNode, aQueue, aState, aTask, gpuId, lease } from "../scene.ts";
import { defaultSchedulingPolicy as policy } from "../scheduling-policy.ts";
import { seededRng } from "../seeded-rng.ts";
import { Future, longest } from "./future.ts";
import { RoughStarts } from "./rough.ts";

const hour = 3_600_000;

/** A node on which each GPU is held until an hour; 0: free. */
function held(name: string, hours: readonly number[], over: Partial<PlanNode> = {}): PlanNode {
  const node = aNode(name, hours.length, over);
  return {
    ...node,
    gpus: node.gpus.map((gpu, at) => ({ ...gpu, free: hours[at] === 0 })),
    running: hours.flatMap((until, at) =>
      until === 0
        ? []
        : [
            lease({
              attempt: `att-${name}-${at}` as AttemptId,
              gpus: [gpuId(name, at)],
              endsByMs: until * hour,
            }),
          ],
    ),
  };
}

/** The nth task to be submitted. */
const nth = (at: number, hours: number, of: Parameters<typeof aTask>[1] = {}): PlanTask =>
  aTask(`t${at}`, { submittedMs: at, maxRuntimeMs: hours * hour, ...of });

/** Hours from now to the rough start of each task. */
function hoursOf(of: Pick<PlanState, "nodes" | "tasks"> & Partial<PlanState>): number[] {
  const rough = new RoughStarts({ state: aState(of), policy, nowMs: 0 });
  return of.tasks.map((task) => rough.start(task, longest) / hour);
}

describe("rough starts", () => {
  test("come one after the other, each where GPUs are free first", () => {
    const nodes = [held("a", [1]), held("b", [3])];
    expect(hoursOf({ nodes, tasks: [nth(1, 5), nth(2, 1), nth(3, 1)] })).toEqual([1, 3, 4]);
  });

  test("keep what a wide task waits for, but for who is done by then", () => {
    const wide = nth(1, 1, { demand: { gpuCount: 2 } });
    const tasks = [wide, nth(2, 2), nth(3, 1)];
    expect(hoursOf({ nodes: [held("a", [1, 3])], tasks })).toEqual([3, 1, 4]);
    expect(hoursOf({ nodes: [held("a", [1, 3])], tasks: [wide, nth(2, 2.5)] })).toEqual([3, 4]);
  });

  test("of a queue at its limit wait for its own, and others go meanwhile", () => {
    const nodes = [held("a", [0, 0])];
    const own = [nth(1, 2), nth(2, 2), nth(3, 2)];
    const other = nth(4, 1, { owner: "b/y" });
    const queues = [aQueue("a/x", { limitGpus: 1 })];
    expect(hoursOf({ nodes, tasks: [...own, other], queues })).toEqual([0, 2, 4, 0]);
    const wide = nth(5, 1, { demand: { gpuCount: 2 } });
    expect(hoursOf({ nodes, tasks: [wide], queues })).toEqual([Infinity]);
  });

  test("are never where what goes before has no end, and not before start_after", () => {
    const tasks = [nth(1, Infinity), nth(2, 1), nth(3, 1, { notBeforeMs: 9 * hour })];
    expect(hoursOf({ nodes: [held("a", [1])], tasks })).toEqual([1, Infinity, Infinity]);
    expect(hoursOf({ nodes: [held("a", [0])], tasks: tasks.slice(2) })).toEqual([9]);
  });

  test("of gangs have all members at once, within a rack where they ask for one, or on nodes of their own", () => {
    const nodes = [
      held("a", [1, 1], { topology: { rack: "r1" } }),
      held("b", [9], { topology: { rack: "r1" } }),
      held("c", [4, 5], { topology: { rack: "r2" } }),
    ];
    const gang = (topology: PlanTask["topology"], replicas: number): number[] =>
      hoursOf({ nodes, tasks: [nth(1, 1, { replicas, topology })] });
    expect(gang({}, 3)).toEqual([4]);
    expect(gang({ within: "rack" }, 3)).toEqual([9]);
    expect(gang({ within: "node" }, 2)).toEqual([1]);
    expect(gang({ spreadOver: "node" }, 2)).toEqual([4]);
    expect(gang({ spreadOver: "rack" }, 3)).toEqual([Infinity]);
  });

  test("go by the model, by the GPUs that a member's cores leave without any, and by what is reserved", () => {
    const nodes = [held("a", [1], { model: "X" } as object), held("b", [3, 3, 3, 3])];
    expect(hoursOf({ nodes, tasks: [nth(1, 1, { demand: { gpuModels: ["A100"] } })] })).toEqual([
      3,
    ]);
    const greedy = nth(1, 1, { demand: { cpuMillis: 500_000 } });
    expect(hoursOf({ nodes: [held("b", [2, 3, 4, 5])], tasks: [greedy] })).toEqual([3]);
    const reserved = {
      ...aQueue("b/y"),
      id: "r",
      gpus: 1,
      models: ["X"],
      startMs: 0,
      endMs: 6 * hour,
    };
    const wanted = nth(1, 1, { demand: { gpuModels: ["X"] } });
    expect(hoursOf({ nodes, tasks: [wanted], reservations: [reserved] })).toEqual([6]);
  });

  test("of tasks without GPUs wait for cores", () => {
    const busy = { attempt: "att-cpu" as AttemptId, cpuMillis: 900_000, endsByMs: 2 * hour };
    const nodes = [aNode("a", 0, { running: [lease(busy)] })];
    const asks = (cpuMillis: number) => ({ demand: { gpuCount: 0, cpuMillis } });
    const tasks = [nth(1, 1, asks(100_000)), nth(2, 1, asks(500_000)), nth(3, 1, asks(600_000))];
    expect(hoursOf({ nodes, tasks })).toEqual([0, 2, 3]);
  });

  test("of an array share its elements between its leases", () => {
    const array = nth(1, 1, { array: { pending: 6, leasesLeft: 2 } });
    expect(hoursOf({ nodes: [held("a", [0, 0])], tasks: [array, nth(2, 1)] })).toEqual([0, 3]);
  });
});

test("at the latest are not before the start that follows every plan, nineteen times in twenty, and mostly not by far after it", () => {
  const draw = seededRng(7);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)]!;
  const nodes = Array.from({ length: 16 }, (_, at) =>
    held(
      `n${at}`,
      Array.from({ length: 8 }, () => 1 + 47 * draw()),
    ),
  );
  const tasks = Array.from({ length: 300 }, (_, at) =>
    nth(at, pick([1, 8, 24, 48]), {
      owner: `${pick(["a", "b"])}/${pick(["x", "y", "z"])}`,
      demand: { gpuCount: pick([1, 1, 1, 1, 2, 2, 4, 8]) },
    }),
  ).map((task) => ({ ...task, project: `${task.project}-${task.org}` as PlanTask["project"] }));
  const state = aState({ nodes, tasks });
  const future = new Future({
    state,
    nowMs: 0,
    policy,
    rng: () => 0.5,
    lengths: longest,
  });
  do future.turn();
  while (future.advance());
  const rough = new RoughStarts({ state, policy, nowMs: 0 });
  const asked = tasks.filter((_, at) => at % 3 === 0);
  const ratios = asked.map(
    (task) => rough.latest(task, longest) / future.started.get(task.id)!.atMs,
  );
  expect(ratios.filter((ratio) => ratio >= 1).length).toBeGreaterThanOrEqual(0.95 * asked.length);
  expect(ratios.toSorted((a, b) => a - b)[asked.length >> 1]).toBeLessThan(1.75);
});

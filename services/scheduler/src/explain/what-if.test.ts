import type { AttemptId, TaskId } from "@fastgpu/domain/ids";
import type { PlanNode, PlanState } from "@fastgpu/scheduling/plan";
import { aNode, aQueue, aState, aTask, gpuId, lease } from "@fastgpu/scheduling/scene";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { expect, test } from "vitest";
import { playBoth, type Change, type ChangedQueue } from "./what-if.ts";

const nowMs = 3_600_000;

/** A node of four GPUs with a task on one of them that can go on elsewhere. */
function inUse(name: string): PlanNode {
  const gpus = [gpuId(name, 0)];
  const [attempt, task] = [`att-${name}` as AttemptId, `task-${name}` as TaskId];
  const node = aNode(name, 4, { running: [lease({ attempt, task, gpus, preemptible: true })] });
  return { ...node, gpus: node.gpus.map((gpu, at) => ({ ...gpu, free: at > 0 })) };
}

function both(state: PlanState, change: Partial<Change>) {
  const played = playBoth({
    snapshot: {
      state,
      policy: defaultSchedulingPolicy,
      history: { predict: () => undefined, meanFactorOff: undefined, names: new Map() },
      stopGraceMs: new Map(),
      gpus: new Map(),
      short: new Map(),
    },
    change: {
      ...{ policy: undefined, added: [], drained: [], queues: [], consolidate: false },
      ...change,
    },
    nowMs,
    untilMs: 2 * nowMs,
    lengths: { endMs: () => 2 * nowMs, runMs: () => nowMs, stopMs: () => 0 },
    rng: () => 0.5,
    goOn: () => true,
  });
  if (played.kind !== "whatIf") throw new Error(played.kind);
  return played;
}

function play(consolidate: boolean) {
  const nodes = [inUse("a"), inUse("b")];
  return { moves: both(aState({ nodes, tasks: [] }), { consolidate }).moves, nodes };
}

test("moves that would free a node are told when asked for, and only then", () => {
  expect(play(false).moves).toEqual([]);
  const { moves, nodes } = play(true);
  const [a, b] = nodes;
  expect(moves).toEqual([{ task: "task-a", project: "proj-a", from: a!.id, to: b!.id, gpus: 1 }]);
});

test("a user's and a model's limits are played, and nobody else's", () => {
  const of = { maxRuntimeMs: 3_600_000, demand: { gpuModels: ["A100"] } };
  const tasks = [
    aTask("eve1", { ...of, owner: "a/x/eve" }),
    aTask("eve2", { ...of, owner: "a/x/eve" }),
    aTask("bob1", { ...of, owner: "a/x/bob" }),
    aTask("any", { ...of, owner: "a/x/eve", demand: { gpuModels: ["H100"] } }),
  ];
  const nodes = [aNode("n", 4), aNode("m", 1, { model: "H100" })];
  const queues = [aQueue("a/x/eve", { limitGpus: 3 })];
  const state = aState({ nodes, tasks, queues });
  const change = (over: Partial<ChangedQueue>): ChangedQueue => ({
    ...{ org: undefined, project: tasks[0]!.project, user: "eve" },
    ...{ weight: undefined, guaranteedGpus: undefined, limitGpus: undefined, models: [] },
    ...over,
  });
  const atOnce = (queue: ChangedQueue): string[] => {
    const { now, changed } = both(state, { queues: [queue] });
    expect(new Set(now.starts.values())).toEqual(new Set([nowMs]));
    return [...changed.starts].flatMap(([id, ms]) => (ms === nowMs ? [id] : [])).toSorted();
  };
  expect(atOnce(change({ limitGpus: 1 }))).toHaveLength(2);
  const model = { model: "A100", guaranteedGpus: undefined, limitGpus: 1 };
  expect(atOnce(change({ models: [model] }))).toEqual(["task-any", "task-bob1", "task-eve1"]);
  // The project's own limit holds for both.
  expect(atOnce(change({ user: undefined, models: [{ ...model, limitGpus: 0 }] }))).toEqual([
    "task-any",
  ]);
});

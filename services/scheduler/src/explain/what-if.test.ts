import type { AttemptId, TaskId } from "@fastgpu/domain/ids";
import type { PlanNode } from "@fastgpu/scheduling/plan";
import { aNode, aState, gpuId, lease } from "@fastgpu/scheduling/scene";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { expect, test } from "vitest";
import { playBoth } from "./what-if.ts";

const nowMs = 3_600_000;

/** A node of four GPUs with a task on one of them that can go on elsewhere. */
function inUse(name: string): PlanNode {
  const gpus = [gpuId(name, 0)];
  const [attempt, task] = [`att-${name}` as AttemptId, `task-${name}` as TaskId];
  const node = aNode(name, 4, { running: [lease({ attempt, task, gpus, preemptible: true })] });
  return { ...node, gpus: node.gpus.map((gpu, at) => ({ ...gpu, free: at > 0 })) };
}

function play(consolidate: boolean) {
  const nodes = [inUse("a"), inUse("b")];
  const state = aState({ nodes, tasks: [] });
  const played = playBoth({
    snapshot: {
      state,
      policy: defaultSchedulingPolicy,
      history: { predict: () => undefined, meanFactorOff: undefined, names: new Map() },
      stopGraceMs: new Map(),
      gpus: new Map(),
    },
    change: { policy: undefined, added: [], drained: [], queues: [], consolidate },
    nowMs,
    untilMs: 2 * nowMs,
    lengths: { endMs: () => 2 * nowMs, runMs: () => nowMs, stopMs: () => 0 },
    rng: () => 0.5,
    goOn: () => true,
  });
  if (played.kind !== "whatIf") throw new Error(played.kind);
  return { moves: played.moves, nodes };
}

test("moves that would free a node are told when asked for, and only then", () => {
  expect(play(false).moves).toEqual([]);
  const { moves, nodes } = play(true);
  const [a, b] = nodes;
  expect(moves).toEqual([{ task: "task-a", project: "proj-a", from: a!.id, to: b!.id, gpus: 1 }]);
});

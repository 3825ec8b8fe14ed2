import type { AttemptId } from "@fastgpu/domain/ids";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { aNode, aState, aTask, gpuId, lease } from "@fastgpu/scheduling/scene";
import { defaultSchedulingPolicy as policy } from "@fastgpu/scheduling/scheduling-policy";
import { expect, test } from "vitest";
import { answer } from "./answer.ts";
import type { Question } from "./question.ts";
import type { Snapshot } from "./snapshot.ts";

const hour = 3_600_000;
const nowMs = 1_000;

/** Four GPUs that are held, and thirty tasks of two projects. */
const state = aState({
  nodes: [
    {
      ...aNode("a", 4),
      gpus: aNode("a", 4).gpus.map((gpu) => ({ ...gpu, free: false })),
      running: [0, 1, 2, 3].map((at) =>
        lease({
          attempt: `att-${at}` as AttemptId,
          gpus: [gpuId("a", at)],
          endsByMs: (1 + at) * hour,
        }),
      ),
    },
  ],
  tasks: Array.from({ length: 30 }, (_, at) =>
    aTask(`t${at}`, { owner: `a/${at % 2}`, submittedMs: at, maxRuntimeMs: 2 * hour }),
  ),
});

/** A snapshot with how often its history was asked. */
function snapshotOf(): { readonly snapshot: Snapshot; readonly asked: () => number } {
  let asked = 0;
  const history = {
    predict: () => {
      asked++;
      return { p50Ms: hour, p90Ms: 2 * hour, runs: 9 };
    },
    meanFactorOff: undefined,
    names: new Map(),
  } as unknown as Snapshot["history"];
  const none = new Map();
  const snapshot = { state, policy, history, stopGraceMs: none, gpus: none, short: none };
  return { snapshot, asked: () => asked };
}

const explain = (task: PlanTask): Question & { kind: "explain" } => ({
  ...{ kind: "explain", task, projects: [], nowMs },
});
/** No time for plans: starts are told by the work before. */
const hurried = { goOn: () => false, spent: () => 1 };

test("tasks asked about one after the other on one snapshot share one reckoning of the line, and hear what each hears alone", () => {
  const { snapshot, asked } = snapshotOf();
  const [first, second] = [state.tasks[20]!, state.tasks[9]!];
  answer(explain(first), snapshot, hurried);
  const before = asked();
  const told = answer(explain(second), snapshot, hurried);
  const more = asked() - before;
  const alone = snapshotOf();
  expect(told).toEqual(answer(explain(second), alone.snapshot, hurried));
  expect(told.told.expected).toMatchObject({ kind: "about" });
  // What its answer rests on and when the four end is asked for each, how long all last that wait before it only once.
  expect(more).toBe(5);
  expect(alone.asked()).toBeGreaterThan(2 * more);
});

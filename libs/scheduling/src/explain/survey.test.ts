import type { AttemptId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { createPlanner } from "../planner.ts";
import { aNode, aState, aTask, gpuId, lease } from "../scene.ts";
import { defaultSchedulingPolicy as policy } from "../scheduling-policy.ts";
import { explainTask } from "./explain.ts";
import { longest } from "./future.ts";
import { Survey } from "./survey.ts";
import { LineView } from "./view.ts";

const hour = 3_600_000;
const rng = (): number => 0.5;

const nodes = Array.from({ length: 4 }, (_, at) => {
  const node = aNode(`n${at}`, 4);
  const held = [0, 1, 2, 3].slice(at);
  return {
    ...node,
    gpus: node.gpus.map((gpu, nth) => ({ ...gpu, free: !held.includes(nth) })),
    running: held.map((nth) =>
      lease({
        attempt: `att-${at}-${nth}` as AttemptId,
        gpus: [gpuId(`n${at}`, nth)],
        endsByMs: (2 + at + 3 * nth) * hour,
      }),
    ),
  };
});

test("tasks of one survey are told what each is told by itself, and starts are worked out once", () => {
  const tasks = Array.from({ length: 40 }, (_, at) =>
    aTask(`t${at}`, {
      owner: `a/${at % 3}`,
      submittedMs: at,
      maxRuntimeMs: (1 + (at % 5)) * hour,
      demand: { gpuCount: 1 + (at % 3) },
    }),
  );
  const state = aState({ nodes, tasks });
  const of = { state, nowMs: 1_000, policy, rng };
  const survey = new Survey(of);
  for (const task of [tasks[39]!, tasks[4]!, tasks[20]!]) {
    const alone = explainTask({ ...of, task, longest });
    expect(explainTask({ ...of, task, longest, survey })).toEqual(alone);
  }
  let asked = 0;
  const counted = {
    ...longest,
    endMs: (each: Parameters<typeof longest.endMs>[0]) => {
      asked++;
      return longest.endMs(each);
    },
  };
  survey.rough.start(tasks[39]!, counted);
  const once = asked;
  expect(once).toBeGreaterThan(0);
  survey.rough.start(tasks[20]!, counted);
  survey.rough.start(tasks[38]!, counted);
  expect(asked).toBe(once);
});

test("a plan of what the leader looks at of a long line starts whom a plan of all of it starts", () => {
  const tasks = Array.from({ length: 17_000 }, (_, at) =>
    aTask(`t${String(at).padStart(5, "0")}`, {
      owner: `${"ab"[at % 2]}/${at % 7}`,
      submittedMs: at,
      priority: at % 11 === 0 ? 3 : 0,
      maxRuntimeMs: hour,
      demand: { gpuCount: 1 + (at % 4) },
    }),
  );
  const state = aState({ nodes, tasks });
  const seen = new LineView(state).of(state, tasks[16_999]!.id);
  const wanted = (of: typeof seen): number =>
    of.tasks.reduce((sum, { demand }) => sum + demand.gpuCount, 0) +
    (of.behind ?? []).reduce((sum, { gpus }) => sum + gpus, 0);
  expect(seen.tasks.length).toBeLessThanOrEqual(16_385);
  expect(seen.tasks).toContain(tasks[16_999]);
  expect(wanted(seen)).toBe(wanted(state));
  const started = (of: typeof seen) =>
    createPlanner({ policy, rng, reasons: false })
      .plan(of, 20_000)
      .placements.map(({ task }) => task.id);
  expect(started(seen)).toEqual(started(state));
  expect(started(seen).length).toBeGreaterThan(0);
});

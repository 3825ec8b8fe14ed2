import type { AttemptId, ProjectId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import type { PlanNode, PlanState, PlanTask } from "../plan.ts";
import { aNode, aState, aTask, gpuId, lease } from "../scene.ts";
import { defaultSchedulingPolicy as policy } from "../scheduling-policy.ts";
import { seededRng } from "../seeded-rng.ts";
import { explainTask, type Explanation } from "./explain.ts";
import { forecastStart, longest, timeOf } from "./future.ts";
import { RoughStarts } from "./rough.ts";

const hour = 3_600_000;
const rng = (): number => 0.5;

/** A node on which each GPU is held until an hour by somebody else's work. */
function held(name: string, hours: readonly number[], over: Partial<PlanNode> & object = {}) {
  const node = aNode(name, hours.length, over);
  return {
    ...node,
    gpus: node.gpus.map((gpu) => ({ ...gpu, free: false })),
    running: hours.map((until, at) =>
      lease({
        attempt: `att-${name}-${at}` as AttemptId,
        gpus: [gpuId(name, at)],
        endsByMs: until * hour,
        org: "org-z" as PlanTask["org"],
        project: "proj-z" as ProjectId,
      }),
    ),
  };
}

/** The nth task to be submitted, for so many hours. */
const nth = (at: number, hours: number, of: Parameters<typeof aTask>[1] = {}): PlanTask =>
  aTask(`t${at}`, { submittedMs: at, maxRuntimeMs: hours * hour, owner: "b/x", ...of });

function explain(state: PlanState, task: PlanTask, projects: readonly ProjectId[] = []) {
  return explainTask({ state, task, nowMs: 1_000, longest, policy, rng, projects });
}

/** What shortens the wait, and to how many hours. */
const shorter = ({ remedies }: Explanation) =>
  remedies.flatMap((remedy) =>
    remedy.start === undefined
      ? []
      : [
          [
            remedy.kind === "change" ? remedy.fields.join() : remedy.kind,
            Math.round((timeOf(remedy.start.latest) ?? Infinity) / hour),
          ],
        ],
  );

/** The planner's own start of a task in place of what has its id. */
function followed(state: PlanState, task: PlanTask) {
  const others = state.tasks.filter(({ id }) => id !== task.id);
  const changed = { ...state, tasks: [...others, task] };
  return forecastStart({ state: changed, nowMs: 1_000, policy, rng, lengths: longest }, task.id);
}

test("behind a long line for one model a task hears of the other that is free sooner, and of going before the others as one that can be stopped", () => {
  const nodes = [
    held("a", [9, 9], { model: "X" } as object),
    held("b", [5], { model: "Y" } as object),
  ];
  const only = { demand: { gpuModels: ["X"] } };
  const ahead = Array.from({ length: 6 }, (_, at) => nth(at, 10, only));
  const task = nth(9, 10, only);
  const state = aState({ nodes, tasks: [...ahead, task] });
  const told = explain(state, task);
  expect(timeOf(told.forecast)! / hour).toBeCloseTo(39, 0);
  expect(shorter(told)).toEqual([
    ["gpuModels", 5],
    ["preemptible", 9],
  ]);
});

test("a gang hears of fewer members, a task of a priority within its project", () => {
  const nodes = [held("a", [6, 6]), held("b", [6, 30])];
  const gang = nth(9, 10, { replicas: 4 });
  expect(shorter(explain(aState({ nodes, tasks: [gang] }), gang))).toEqual([["replicas", 6]]);
  const own = Array.from({ length: 5 }, (_, at) => nth(at, 20, { preemptible: true }));
  const last = nth(9, 20, { preemptible: true });
  const line = aState({ nodes: [held("a", [6])], tasks: [...own, last] });
  expect(shorter(explain(line, last))).toEqual([["priority", 6]]);
});

test("whoever waits for less than four hours, or has something that starts it now, hears of no shorter wait", () => {
  const busy = nth(9, 10, { replicas: 2 });
  expect(shorter(explain(aState({ nodes: [held("a", [1, 3])], tasks: [busy] }), busy))).toEqual([]);
  const nodes = [held("a", [9], { model: "X" } as object), aNode("b", 1, { model: "Y" })];
  const task = nth(9, 10, { demand: { gpuModels: ["X"] } });
  const told = explain(aState({ nodes, tasks: [task] }), task);
  expect(told.remedies[0]).toMatchObject({ fields: ["gpuModels"], startsByMs: 1_000 });
  expect(shorter(told)).toEqual([]);
});

test("of random lines what is told to shorten a wait does so by a fifth at least, as the planner itself plays it", () => {
  const draw = seededRng(11);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)]!;
  const kinds = new Set<string>();
  for (let scene = 0; scene < 12; scene++) {
    const nodes = Array.from({ length: 3 }, (_, at) => {
      const model = pick(["X", "Y"]);
      const hours = Array.from({ length: 4 }, () => 2 + Math.floor(20 * draw()));
      return held(`n${at}`, hours, { model } as object);
    });
    const tasks = Array.from({ length: 12 }, (_, at) =>
      nth(at, pick([2, 8, 24]), {
        owner: `b/${pick(["x", "y"])}`,
        priority: pick([0, 0, 3]),
        demand: { gpuCount: pick([1, 1, 2, 4]), gpuModels: pick([[], ["X"], ["Y"]]) },
      }),
    );
    const state = aState({ nodes, tasks });
    const task = tasks[11]!;
    const told = explain(state, task, ["proj-x" as ProjectId, "proj-y" as ProjectId]);
    const asItIsMs = timeOf(told.forecast) ?? Infinity;
    for (const remedy of told.remedies) {
      if (remedy.start === undefined) continue;
      kinds.add(remedy.kind === "change" ? remedy.fields.join() : remedy.kind);
      const changed =
        remedy.kind === "change"
          ? remedy.task
          : {
              ...task,
              submittedMs: 1_000,
              project: remedy.kind === "project" ? remedy.project : task.project,
            };
      const again = followed(state, changed);
      expect(again).toMatchObject({ kind: "starts", atMs: remedy.startsByMs });
      expect(remedy.startsByMs! - 1_000).toBeLessThanOrEqual(0.8 * (asItIsMs - 1_000));
    }
  }
  // Not all of one kind, and not none.
  expect(kinds.size).toBeGreaterThan(2);
});

test("a ghost starts when the task in its place would, and one that is like it starts no sooner", () => {
  const draw = seededRng(5);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)]!;
  const nodes = Array.from({ length: 6 }, (_, at) =>
    held(
      `n${at}`,
      Array.from({ length: 8 }, () => 1 + 30 * draw()),
    ),
  );
  const tasks = Array.from({ length: 120 }, (_, at) =>
    nth(at, pick([1, 8, 24]), {
      owner: `b/${pick(["x", "y", "z"])}`,
      demand: { gpuCount: pick([1, 1, 2, 4, 8]) },
    }),
  );
  const rough = new RoughStarts({ state: aState({ nodes, tasks }), policy, nowMs: 0 });
  for (const task of tasks.filter((_, at) => at % 10 === 0)) {
    const later = { ...task, submittedMs: 1_000 };
    const { asItIs, changed } = rough.instead(task, [{ task: later }], longest);
    expect(asItIs).toBe(rough.start(task, longest));
    expect(changed[0]).toBeGreaterThanOrEqual(asItIs);
  }
});

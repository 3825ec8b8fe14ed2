import type { AttemptId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import type { PlanState, PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { aNode, aQueue, aState, aTask, gpuId } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";
import { explainTask, type Explanation } from "./explain.ts";
import { longest } from "./future.ts";
import { withLease } from "./lease.ts";

const hour = 3_600_000;
const policy = defaultSchedulingPolicy;
const rng = () => 0.5;

const proj = (name: string): ProjectId => `proj-${name}` as ProjectId;

function explain(state: PlanState, task: PlanTask, projects: readonly string[] = []): Explanation {
  return explainTask({
    ...{ state, task, nowMs: 0, longest, policy, rng },
    projects: projects.map(proj),
  });
}

function starts(state: PlanState, task: PlanTask): boolean {
  const others = state.tasks.filter(({ id }) => id !== task.id);
  const plan = createPlanner({ policy, rng }).plan({ ...state, tasks: [...others, task] }, 0);
  return plan.placements.some((placement) => placement.task.id === task.id);
}

const moves = ({ remedies }: Explanation) =>
  remedies.flatMap((remedy) => (remedy.kind === "project" ? [remedy] : []));

test("behind its project's limit a task hears of projects with room, those that hold least first, and starts there", () => {
  const task = aTask("t", { owner: "a/x", maxRuntimeMs: hour });
  const holder = (id: string, owner: string, at: number) =>
    withLease(node, aTask(id, { owner }), {
      ...{ gpus: [gpuId("n", at)], nowMs: 0, attempt: `att-${id}` as AttemptId },
    });
  let node = aNode("n", 8);
  node = holder("r1", "a/x", 0);
  node = holder("r2", "a/y", 1);
  node = holder("r3", "a/full", 2);
  const limit = (owner: string) => aQueue(owner, { limitGpus: 1 });
  const queues = [limit("a/x"), limit("a/full")];
  const state = aState({ nodes: [node], tasks: [task], queues });
  const told = explain(state, task, ["x", "y", "full", "idle"]);
  expect(told.quotas).toHaveLength(1);
  expect(moves(told)).toEqual([
    { kind: "project", project: proj("idle"), startsByMs: 0 },
    { kind: "project", project: proj("y"), startsByMs: 0 },
  ]);
  for (const { project } of moves(told)) expect(starts(state, { ...task, project })).toBe(true);
  // Nobody is told of a project that was not asked about, and none helps where the organisation itself is full.
  expect(moves(explain(state, task))).toEqual([]);
  const full = { ...state, queues: [...queues, aQueue("a", { limitGpus: 3 })] };
  expect(moves(explain(full, task, ["y", "idle"]))).toEqual([]);
});

test("what a reservation keeps waiting hears of the reservation, of a run time that ends before it, of loans, and of its owner", () => {
  const task = aTask("t", { owner: "a/y", maxRuntimeMs: 10 * hour });
  const reservation = {
    ...{ id: "resv-1", org: "org-a" as OrgId, project: proj("x"), gpus: 2, models: [] },
    ...{ startMs: 3 * hour, endMs: 6 * hour },
  };
  const state = aState({ nodes: [aNode("n", 2)], tasks: [task], reservations: [reservation] });
  const told = explain(state, task, ["x"]);
  expect(told).toMatchObject({ reservation, forecast: { kind: "starts", atMs: 6 * hour } });
  const [elsewhere, shorter, lent, wait] = told.remedies;
  expect(elsewhere).toMatchObject({ kind: "project", project: proj("x"), startsByMs: 0 });
  expect(shorter).toMatchObject({ kind: "change", fields: ["maxRuntimeMs"], startsByMs: 0 });
  if (shorter?.kind !== "change") throw new Error("no shorter run time");
  expect(shorter.task.maxRuntimeMs).toBe(2 * hour);
  expect(starts(state, shorter.task)).toBe(true);
  expect(lent).toMatchObject({ kind: "change", fields: ["preemptible"], startsByMs: 0 });
  if (lent?.kind !== "change") throw new Error("no loan");
  expect(starts(state, lent.task)).toBe(true);
  expect(wait?.kind).toBe("wait");
  // Once it has begun no shorter run time helps, and where nobody is ever stopped nothing is lent.
  const begun = { ...state, reservations: [{ ...reservation, startMs: 0 }] };
  const fieldsOf = ({ remedies }: Explanation) =>
    remedies.flatMap((remedy) => (remedy.kind === "change" ? remedy.fields : []));
  expect(fieldsOf(explain(begun, task))).toEqual(["preemptible"]);
  const never = { ...policy, preemption: { enabled: false } };
  const input = { state: begun, task, nowMs: 0, longest, policy: never, rng };
  expect(fieldsOf(explainTask(input))).toEqual([]);
  expect(explain({ ...state, reservations: [] }, task).reservation).toBeUndefined();
});

test("remedies come smallest first: limits, another queue, one field, two fields, an end, waiting", () => {
  const task = aTask("t", {
    ...{ owner: "a/x", maxRuntimeMs: 10 * hour },
    demand: { gpuCount: 4, gpuModels: ["A100"] },
  });
  let node = aNode("n", 4);
  const running = aTask("r", { owner: "a/x", maxRuntimeMs: hour, demand: { gpuCount: 2 } });
  node = withLease(node, running, { gpus: [gpuId("n", 0), gpuId("n", 1)], nowMs: 0 });
  const nodes = [node, aNode("h", 4, { model: "H100" })];
  const told = explain(aState({ nodes, tasks: [task] }), task, ["y"]);
  const sizes = told.remedies.map((remedy) =>
    remedy.kind === "change"
      ? remedy.fields.length
      : { limit: -1, project: 0, end: 8, wait: 9 }[remedy.kind],
  );
  expect(sizes.length).toBeGreaterThanOrEqual(3);
  expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
});

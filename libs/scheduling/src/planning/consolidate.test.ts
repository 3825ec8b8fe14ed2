import type { AttemptId, TaskId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PlanLease, PlanNode } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { aNode, aState, gpuId, lease } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";

const hourMs = 3_600_000;

/** A task that can be stopped, on these GPUs of a node, for an hour. */
const movable = (id: string, node: string, at: readonly number[], of: Partial<PlanLease> = {}) =>
  lease({
    attempt: `att-${id}` as AttemptId,
    task: `task-${id}` as TaskId,
    gpus: at.map((each) => gpuId(node, each)),
    preemptible: true,
    ...of,
  });

function node(
  name: string,
  gpus: number,
  running: readonly PlanLease[],
  of: Parameters<typeof aNode>[2] = {},
): PlanNode {
  const plain = aNode(name, gpus, of);
  const held = new Set(running.flatMap((each) => each.gpus));
  const own = plain.gpus.map((gpu) => ({ ...gpu, free: !held.has(gpu.id) }));
  return { ...plain, gpus: own, running };
}

function movesOf(nodes: readonly PlanNode[], maxMoves = 16) {
  const policy = { ...defaultSchedulingPolicy, consolidation: { enabled: true, maxMoves } };
  const planner = createPlanner({ policy, rng: () => 0.5 });
  return planner.plan(aState({ nodes, tasks: [] }), hourMs).moves;
}

describe("consolidation", () => {
  const a = () => node("a", 4, [movable("1", "a", [0])]);
  const b = (of: Partial<PlanLease> = {}) => node("b", 4, [movable("2", "b", [0, 1], of)]);

  test("frees the node on which least work is lost, onto one that is in use", () => {
    const [move, ...rest] = movesOf([a(), b()]);
    expect(rest).toEqual([]);
    expect(move).toMatchObject({ attempt: "att-1", task: "task-1", to: { node: b().id } });
    expect(move?.from).toBe(a().id);
    const saved = { savedMs: hourMs - 60_000 };
    expect(movesOf([a(), b(saved)])).toMatchObject([{ attempt: "att-2", from: b().id }]);
  });

  test("is off in the shipped policy", () => {
    const planner = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
    expect(planner.plan(aState({ nodes: [a(), b()], tasks: [] }), hourMs).moves).toEqual([]);
  });

  test.each([
    ["nothing that cannot go on elsewhere", [a(), b()].map((each) => pinned(each))],
    ["nothing that has just started", [a(), b()].map((each) => justStarted(each))],
    ["nothing onto GPUs of another model", [a(), node("b", 4, b().running, { model: "X" })]],
    ["nothing onto a node that runs less", [a(), { ...b(), runtimes: [] }].map(onlyFrom("a"))],
    ["nothing onto an empty node", [a(), node("c", 4, [])]],
    ["nothing from a full node", [node("a", 1, [movable("1", "a", [0])]), pinned(b())]],
    ["nothing to or from a node that drains", [a(), { ...b(), acceptsWork: false }]],
  ])("moves %s", (_, nodes) => {
    expect(movesOf(nodes)).toEqual([]);
  });

  test("never proposes more moves than the policy allows", () => {
    const many = node(
      "a",
      8,
      [0, 1, 2].map((at) => movable(`a${at}`, "a", [at])),
    );
    const roomy = node(
      "b",
      8,
      [movable("b", "b", [0, 1, 2, 3])].map((each) => pinnedLease(each)),
    );
    expect(movesOf([many, roomy], 3)).toHaveLength(3);
    expect(movesOf([many, roomy], 2)).toEqual([]);
  });
});

const pinnedLease = (each: PlanLease): PlanLease => ({ ...each, preemptible: false });
const pinned = (each: PlanNode): PlanNode => ({ ...each, running: each.running.map(pinnedLease) });
const justStarted = (each: PlanNode): PlanNode => ({
  ...each,
  running: each.running.map((one) => ({ ...one, runningSinceMs: hourMs - 1_000 })),
});
const onlyFrom = (name: string) => (each: PlanNode) => (each.name === name ? each : pinned(each));

test("all moves of one answer work out together, and each freed node is empty", () => {
  const fleet = fc.array(
    fc.record({
      gpus: fc.constantFrom(2, 4, 8),
      sizes: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 4 }),
      stays: fc.boolean(),
    }),
    { minLength: 2, maxLength: 6 },
  );
  const property = fc.property(fleet, (kinds) => {
    const nodes = kinds.map(({ gpus, sizes, stays }, number) => {
      const name = `n${number}`;
      const running: PlanLease[] = [];
      let next = 0;
      for (const [index, size] of sizes.entries()) {
        if (next + size > gpus) break;
        const at = Array.from({ length: size }, (__, offset) => next + offset);
        const of = { preemptible: !stays || index > 0 };
        running.push(movable(`${number}-${index}`, name, at, of));
        next += size;
      }
      return node(name, gpus, running);
    });
    const moves = movesOf(nodes);
    const used = new Map(
      nodes.flatMap(({ running }) =>
        running.flatMap(({ gpus, attempt }) => gpus.map((gpu) => [gpu, attempt])),
      ),
    );
    const from = new Set(moves.map((move) => move.from));
    // First all leave, then all arrive: nobody arrives where somebody stays, or on a node that is to be free.
    for (const [gpu, attempt] of used) {
      if (moves.some((move) => move.attempt === attempt)) used.delete(gpu);
    }
    for (const { attempt, to } of moves) {
      expect(from.has(to.node)).toBe(false);
      for (const gpu of to.gpus) {
        expect(used.has(gpu)).toBe(false);
        used.set(gpu, attempt);
      }
    }
    for (const { id, gpus } of nodes) {
      if (from.has(id)) expect(gpus.some((gpu) => used.has(gpu.id))).toBe(false);
    }
  });
  fc.assert(property, { numRuns: 300 });
});

import type { TaskId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { GpuMode, GpuPart, HeldPart, PlanNode, PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { aNode, aState, aTask, gpuId } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";
import { explainTask } from "./explain.ts";
import { longest } from "./future.ts";
import { withLease } from "./lease.ts";

const hour = 3_600_000;
const rng = () => 0.5;
const share = (
  milli: number,
  weakest: "dmem_mps" | "mps" | "timeslice" = "timeslice",
): GpuPart => ({
  kind: "share",
  milli,
  weakest,
});
const instance = (name: string): GpuPart => ({ kind: "mig", profile: `h100-80/${name}` });
const sliced: GpuMode = { isolation: "timeslice" };
const divided: GpuMode = { isolation: "mig", geometry: "h100-80" };
const wants = (part: GpuPart, of: Parameters<typeof aTask>[1] = {}): PlanTask =>
  aTask("t", { maxRuntimeMs: hour, ...of, demand: { part, ...of?.demand } });

const explain = (task: PlanTask, nodes: readonly PlanNode[], others: readonly PlanTask[] = []) =>
  explainTask({
    state: aState({ nodes, tasks: [...others, task] }),
    task,
    nowMs: 0,
    longest,
    policy: defaultSchedulingPolicy,
    rng,
  });

/** The node with a part of its first GPU held. */
function holding(node: PlanNode, part: HeldPart, owner = "a/x"): PlanNode {
  const task = aTask("held", { owner });
  return withLease(node, task, { gpus: [gpuId(node.name, 0)], part, nowMs: 0, endsByMs: 5 * hour });
}
const held = (milli: number, memoryMib = 0): HeldPart => ({
  kind: "share",
  milli,
  memoryMib,
  grade: "timeslice",
});

const startsAlone = (task: PlanTask, nodes: readonly PlanNode[]): boolean =>
  createPlanner({ policy: defaultSchedulingPolicy, rng }).plan(aState({ nodes, tasks: [task] }), 0)
    .placements.length > 0;

describe("a task that waits for a part of a GPU", () => {
  test("that is kept apart too weakly hears of it, and starts with a weaker grade", () => {
    const nodes = [aNode("n", 1, { mode: sliced })];
    const told = explain(wants(share(250, "dmem_mps")), nodes);
    expect(told.fit.blockers).toEqual([{ check: "gpu_isolation", nodes: 1, nodesOtherwiseFit: 1 }]);
    expect(told.remedies).toMatchObject([
      { kind: "change", fields: ["isolation"], task: { demand: { part: share(250) } } },
    ]);
  });

  test("of which too little is left starts with a smaller share, or less memory", () => {
    const nodes = [holding(aNode("n", 1, { mode: sliced }), held(400, 50_000))];
    const told = explain(wants(share(800)), nodes);
    expect(told.fit.blockers).toEqual([{ check: "gpu_busy", nodes: 1, nodesOtherwiseFit: 1 }]);
    expect(told.remedies).toMatchObject([
      { fields: ["gpuPart"], task: { demand: { part: share(600) } }, startsByMs: 0 },
      { kind: "end" },
      { kind: "wait", startsByMs: 5 * hour },
    ]);
    const memory = explain(wants(share(500), { demand: { gpuMinMemoryMib: 40_000 } }), nodes);
    expect(memory.remedies[0]).toMatchObject({
      fields: ["gpuMinMemoryMib"],
      task: { demand: { part: share(500), gpuMinMemoryMib: 30_000 } },
    });
  });

  test("that another organisation shares is told so, and when that ends", () => {
    const nodes = [holding(aNode("n", 1, { mode: sliced }), held(100), "b/z")];
    const told = explain(wants(share(250)), nodes);
    expect(told.fit.blockers).toEqual([
      { check: "gpu_shared_with_other_tenant", nodes: 1, nodesOtherwiseFit: 1 },
    ]);
    expect(told.forecast).toMatchObject({ kind: "starts", atMs: 5 * hour });
    expect(told.remedies.map(({ kind }) => kind)).toEqual(["wait"]);
  });

  test("a MIG instance that finds no slices becomes a smaller one; where nothing is divided so, a share", () => {
    const mig: HeldPart = { kind: "mig", profile: "h100-80/4g.40gb", starts: [0], grade: "mig" };
    const full = { ...mig, profile: "h100-80/2g.20gb", starts: [4] };
    const nodes = [holding(holding(aNode("n", 1, { mode: divided }), mig, "b/z"), full, "b/z")];
    const told = explain(wants(instance("3g.40gb")), nodes);
    expect(told.fit.blockers).toEqual([{ check: "gpu_busy", nodes: 1, nodesOtherwiseFit: 1 }]);
    expect(told.remedies[0]).toMatchObject({
      fields: ["gpuPart"],
      task: { demand: { part: instance("1g.20gb") } },
    });
    const other = explain(wants(instance("3g.40gb")), [aNode("n", 1, { mode: sliced })]);
    expect(other.fit.blockers).toContainEqual({ check: "gpu_mig", nodes: 1, nodesOtherwiseFit: 0 });
    expect(other.remedies[0]).toMatchObject({
      fields: ["isolation"],
      task: { demand: { part: share(500) } },
    });
  });

  test("a whole GPU may be had in part, where GPUs are shared", () => {
    const nodes = [holding(aNode("n", 1, { mode: sliced }), held(300))];
    const told = explain(aTask("t", { maxRuntimeMs: hour }), nodes);
    expect(told.remedies[0]).toMatchObject({
      fields: ["gpuPart"],
      task: { demand: { part: share(700) } },
    });
    const whole = explain(aTask("t", { demand: { gpuCount: 2 } }), [aNode("n", 1)]);
    expect(whole.remedies).toMatchObject([{ fields: ["gpuCount"] }]);
  });
});

const arbitraryPart: fc.Arbitrary<GpuPart | undefined> = fc.oneof(
  fc.constant(undefined),
  fc
    .tuple(
      fc.constantFrom(100, 300, 500, 900),
      fc.constantFrom("dmem_mps" as const, "mps" as const, "timeslice" as const),
    )
    .map(([milli, weakest]) => share(milli, weakest)),
  fc.constantFrom("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb").map(instance),
);
const arbitraryTask = fc.record({
  owner: fc.constantFrom("a/x", "b/z"),
  part: arbitraryPart,
  gpuCount: fc.integer({ min: 1, max: 2 }),
  gpuMinMemoryMib: fc.constantFrom(0, 0, 20_000, 60_000),
});
const modes: GpuMode[] = [
  { isolation: "exclusive" },
  ...(["dmem_mps", "mps", "timeslice"] as const).map((isolation) => ({ isolation })),
  divided,
];

test("a remedy that is offered does start the task when applied to the state", () => {
  const offered = new Map<string, number>();
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...modes), { minLength: 1, maxLength: 3 }),
      fc.array(arbitraryTask, { maxLength: 8 }),
      arbitraryTask,
      (fleet, running, mine) => {
        const taskOf = ({ owner, ...demand }: typeof mine, id: string): PlanTask =>
          aTask(id, { owner, demand, maxRuntimeMs: hour });
        let nodes = fleet.map((mode, at) => aNode(`n${at}`, 2, { mode }));
        const planner = createPlanner({ policy: defaultSchedulingPolicy, rng });
        const tasks = running.map((each, at) => taskOf(each, `r${at}`));
        for (const { task, members } of planner.plan(aState({ nodes, tasks }), 0).placements) {
          const [place] = members;
          nodes = nodes.map((node) =>
            node.id === place!.node ? withLease(node, task, { ...place!, nowMs: 0 }) : node,
          );
        }
        const subject = taskOf(mine, "me");
        const told = explain(subject, nodes);
        const starts = told.forecast.kind === "starts" && told.forecast.atMs === 0;
        expect(starts).toBe(startsAlone(subject, nodes));
        expect(told.fit.fitting > 0).toBe(starts);
        for (const remedy of told.remedies) {
          if (remedy.kind !== "change" || remedy.startsByMs !== 0) continue;
          for (const field of remedy.fields) offered.set(field, (offered.get(field) ?? 0) + 1);
          expect(startsAlone({ ...remedy.task, id: "task-again" as TaskId }, nodes)).toBe(true);
        }
      },
    ),
    { numRuns: 400 },
  );
  for (const field of ["isolation", "gpuPart", "gpuCount"]) {
    expect([field, (offered.get(field) ?? 0) > 5]).toEqual([field, true]);
  }
});

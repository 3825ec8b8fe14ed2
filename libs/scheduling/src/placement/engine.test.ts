import { describe, expect, test } from "vitest";
import { PlacementEngine } from "./engine.ts";
import type { PolicyName } from "./engine.ts";
import type { GpuSpec, NodeSpec } from "./nodes.ts";
import { checkRequest, emptyRequest } from "./shapes.ts";
import type { ResourceRequest } from "./shapes.ts";

function gpu(model: string, over: Partial<GpuSpec> = {}): GpuSpec {
  const base = { id: "gpu", memoryMib: 16_000, capacityMilli: 1000, simulated: false };
  return { ...base, model, isolation: "mps", ...over };
}

function node(id: string, gpus: readonly GpuSpec[], over: Partial<NodeSpec> = {}): NodeSpec {
  const base = { cpuMillis: 8000, memoryMib: 32_000, diskMib: 100, schedulable: true };
  return { id, ...base, topology: {}, gpus, ...over };
}

function request(over: Partial<ResourceRequest>): ResourceRequest {
  return { ...emptyRequest, gpus: 1, gpuMilli: 1000, cpuMillis: 1000, ...over };
}

function engineOf(nodes: readonly NodeSpec[], policy: PolicyName = "default"): PlacementEngine {
  return new PlacementEngine({ nodes, policy, rng: () => 0 });
}

describe("explain", () => {
  const nodes = [
    node("a", [gpu("A100")]),
    node("b", [gpu("T4")]),
    node("c", [gpu("A100")], { cpuMillis: 500 }),
    node("d", [gpu("A100", { simulated: true })], { schedulable: false }),
    node("e", []),
  ];

  test("tells every blocker with its nodes, and which alone stands in the way", () => {
    const engine = engineOf(nodes);
    const shape = engine.shape(request({ models: ["A100"], allowSimulated: false }));
    engine.place(shape);
    expect(engine.explain(shape)).toEqual({
      nodes: 5,
      fitting: 0,
      blockers: [
        { reason: "gpu_count", nodes: 1, nodesOtherwiseFit: 1 },
        { reason: "gpu_model", nodes: 1, nodesOtherwiseFit: 1 },
        { reason: "gpu_busy", nodes: 1, nodesOtherwiseFit: 1 },
        { reason: "cpu", nodes: 1, nodesOtherwiseFit: 1 },
        { reason: "node_unschedulable", nodes: 1, nodesOtherwiseFit: 0 },
        { reason: "gpu_simulated", nodes: 1, nodesOtherwiseFit: 0 },
      ],
    });
  });

  test("names the tenant rule on a shared GPU, and MIG lifts it", () => {
    for (const [isolation, fitting] of [
      ["mps", 0],
      ["mig", 1],
    ] as const) {
      const engine = engineOf([node("a", [gpu("A100", { isolation })])]);
      engine.place(engine.shape(request({ gpuMilli: 400, owner: "org-1" })));
      const other = engine.shape(request({ gpuMilli: 400, owner: "org-2" }));
      const own = engine.shape(request({ gpuMilli: 400, owner: "org-1" }));
      const report = engine.explain(other);
      expect(report.fitting).toBe(fitting);
      if (fitting === 0) {
        expect(report.blockers).toEqual([
          { reason: "gpu_shared_with_other_tenant", nodes: 1, nodesOtherwiseFit: 1 },
        ]);
      }
      expect(engine.explain(own).fitting).toBe(1);
    }
  });
});

describe("the default policy", () => {
  test("fills the gap that is worth least, once it has seen the mix", () => {
    const engine = engineOf([node("a", [gpu("A100"), gpu("A100"), gpu("A100")])]);
    const wide = engine.shape(request({ gpuMilli: 700 }));
    const narrow = engine.shape(request({ gpuMilli: 300 }));
    for (let arrival = 0; arrival < 10; arrival++) {
      engine.observe(wide);
      engine.observe(narrow);
    }
    expect(engine.place(wide)?.gpus).toEqual([0]);
    expect(engine.place(narrow)?.gpus).toEqual([0]);
    expect(engine.place(narrow)?.gpus).toEqual([1]);
    expect(engine.place(wide)?.gpus).toEqual([1]);
  });

  test("keeps the rare model for those who can use no other", () => {
    const engine = engineOf([
      node("a", [gpu("rare"), gpu("rare")]),
      node("b", [gpu("plain"), gpu("plain")]),
    ]);
    const any = engine.shape(request({}));
    const bound = engine.shape(request({ models: ["rare"] }));
    for (let arrival = 0; arrival < 10; arrival++) {
      engine.observe(any);
      engine.observe(bound);
    }
    expect([engine.place(any), engine.place(any)].map((at) => at?.node)).toEqual([1, 1]);
  });

  test("counts the rest of a GPU as lost where a share takes the CPU for it", () => {
    const engine = engineOf([
      node("a", [gpu("A100")], { cpuMillis: 12_000 }),
      node("b", [gpu("A100"), gpu("A100")], { cpuMillis: 24_000 }),
    ]);
    const hungry = engine.shape(request({ gpuMilli: 500, cpuMillis: 12_000 }));
    const modest = engine.shape(request({ cpuMillis: 4000 }));
    for (let arrival = 0; arrival < 10; arrival++) {
      engine.observe(hungry);
      engine.observe(modest);
    }
    expect(engine.place(hungry)?.node).toBe(1);
  });
});

test("a removed node is not used, and a later one under its name is", () => {
  const engine = engineOf([node("a", [gpu("A100")])]);
  const shape = engine.shape(request({}));
  engine.removeNode(0);
  expect(engine.place(shape)).toBeUndefined();
  expect(engine.addNode(node("a", [gpu("A100")]))).toBe(1);
  expect(engine.place(shape)).toEqual({ node: 1, gpus: [0] });
});

test("a node closes a GPU and is cordoned around what runs there", () => {
  const engine = engineOf([node("a", [gpu("A100"), gpu("A100")])]);
  const shape = engine.shape(request({ gpuMilli: 600 }));
  const { gpus } = engine.place(shape)!;
  const closed = node("a", [gpu("A100", { capacityMilli: 0 }), gpu("A100")]);
  engine.replaceNode(0, closed, [{ shape, gpus }]);
  expect(gpus).toEqual([0]);
  expect(engine.place(shape)).toEqual({ node: 0, gpus: [1] });
  engine.release(shape, { node: 0, gpus });
  expect(engine.find(shape)).toBeUndefined();
  engine.replaceNode(0, { ...closed, schedulable: false }, [{ shape, gpus: [1] }]);
  expect(engine.explain(shape).blockers.map(({ reason }) => reason)).toContain(
    "node_unschedulable",
  );
  engine.release(shape, { node: 0, gpus: [1] });
  expect(engine.find(shape)).toBeUndefined();
});

test("nodes of up to 64 GPUs are filled beside small ones, and no more is taken", () => {
  const wide = node(
    "wide",
    Array.from({ length: 64 }, () => gpu("A100")),
  );
  const engine = engineOf([node("a", [gpu("A100")]), node("none", []), wide]);
  const all = engine.shape(request({ gpus: 64 }));
  const most = engine.shape(request({ gpus: 63 }));
  engine.observe(all);
  expect(engine.find(all)).toEqual({ node: 2, gpus: Array.from({ length: 64 }, (_, at) => at) });
  expect(engine.place(most)?.node).toBe(2);
  expect(engine.find(all)).toBeUndefined();
  expect(engine.place(engine.shape(request({})))).toBeDefined();
  expect(engine.place(engine.shape(request({})))).toBeDefined();
  expect(engine.find(engine.shape(request({ gpuMilli: 1 })))).toBeUndefined();
  const wider = node(
    "wider",
    Array.from({ length: 65 }, () => gpu("A100")),
  );
  expect(() => engine.addNode(wider)).toThrow(RangeError);
});

test("taking what is not free throws and changes nothing", () => {
  const engine = engineOf([node("a", [gpu("A100")])]);
  const shape = engine.shape(request({}));
  const placement = engine.place(shape)!;
  const before = engine.hash();
  expect(() => engine.take(shape, placement)).toThrow(RangeError);
  expect(engine.hash()).toBe(before);
});

test.each([
  [{ gpus: -1 }, "gpus"],
  [{ gpus: 65 }, "gpus"],
  [{ gpus: 1.5 }, "gpus"],
  [{ gpuMilli: 0 }, "gpuMilli"],
  [{ gpuMilli: 1001 }, "gpuMilli"],
  [{ gpus: 0, gpuMilli: 500 }, "gpus"],
  [{ cpuMillis: 2 ** 31 }, "cpuMillis"],
  [{ memoryMib: Number.NaN }, "memoryMib"],
  [{ models: [] }, "models"],
] as const)("a request with %j is refused by field", (over, field) => {
  expect(checkRequest(request(over))?.field).toBe(field);
  expect(() => engineOf([]).shape(request(over))).toThrow(RangeError);
});

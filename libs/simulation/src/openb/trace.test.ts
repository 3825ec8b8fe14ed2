import { expect, test } from "vitest";
import { renamed, runAllocation, toNodeSpec } from "./allocation.ts";
import { describeProblem } from "./csv.ts";
import { readOpenbNodes, readOpenbPods, workloadName } from "./trace.ts";

const podHead = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec";

test("pods are read with and without the column of models", () => {
  const spec = readOpenbPods("f", `${podHead}\np,1000,2,1,460,T4|A10|T4\nq,1000,2,0,0,\n`);
  const bare = readOpenbPods(
    "f",
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli\r\np,1000,2,8,1000\r\n",
  );
  const pod = { name: "p", cpuMillis: 1000, memoryMib: 2, gpus: 1, gpuMilli: 460 };
  expect(spec).toEqual({
    kind: "ok",
    rows: [
      { ...pod, models: ["A10", "T4"] },
      { ...pod, name: "q", gpus: 0, gpuMilli: 0, models: null },
    ],
  });
  expect(bare).toEqual({ kind: "ok", rows: [{ ...pod, gpus: 8, gpuMilli: 1000, models: null }] });
});

test.each([
  [`${podHead}\np,1000,2,1,460,\nq,-5,2,0,0,`, `f:3: column "cpu_milli": -5 is not in`],
  [`${podHead}\np,1000,2,1,many,`, `f:2: column "gpu_milli": "many" is not a whole number`],
  [`${podHead}\np,1000,2,2,500,`, `f:2: column "gpu_milli": is 500 for a pod of 2 GPUs`],
  [`${podHead}\np,1000,2,1,,`, `f:2: column "gpu_milli": "" is not a whole number`],
  [`${podHead}\np,1000.5,2,1,1000,`, `f:2: column "cpu_milli": "1000.5" is not a whole number`],
  [`${podHead}\np,1000,2`, `f:2: column "num_gpu": 3 fields, expected 6`],
  ["name,cpu_milli\np,1", `f:1: column "memory_mib": missing`],
  [podHead, `f:1: column "name": the file has no rows`],
])("a bad pod list is refused with its place: %j", (text, message) => {
  const result = readOpenbPods("f", text);
  expect(result.kind === "bad" && describeProblem(result)).toContain(message);
});

test("lists are read as other tools write them: quotes, any order of columns, no GPU share where there is no GPU", () => {
  const rows = [
    '"gpu_spec","gpu_milli","name","num_gpu","cpu_milli","memory_mib"',
    '"T4|A10","460.0","a ""pod"", named",1,"1000",2',
    ',,"","0",1000.0,2',
  ];
  const pod = { cpuMillis: 1000, memoryMib: 2 };
  for (const text of [rows.join("\r\n"), `\uFEFF${rows.join("\n")}\n\n`]) {
    expect(readOpenbPods("f", text)).toEqual({
      kind: "ok",
      rows: [
        { ...pod, name: 'a "pod", named', gpus: 1, gpuMilli: 460, models: ["A10", "T4"] },
        { ...pod, name: "", gpus: 0, gpuMilli: 0, models: null },
      ],
    });
  }
});

test("a node named twice is refused", () => {
  const result = readOpenbNodes("f", "sn,cpu_milli,memory_mib,gpu,model\na,1,1,1,T4\na,1,1,1,T4");
  expect(result).toMatchObject({ kind: "bad", line: 3, column: "sn" });
});

test("a workload is named by its file", () => {
  expect(workloadName("/x/openb_pod_list_gpuspec33.csv")).toBe("gpuspec33");
  expect(workloadName("mine.csv")).toBe("mine");
});

test("pods that fit exactly are all placed, and allocation follows arrivals", () => {
  const nodes = [{ id: "a", cpuMillis: 8000, memoryMib: 8, gpus: 2, model: "T4" }];
  const pods = [{ name: "p", cpuMillis: 1, memoryMib: 1, gpus: 1, gpuMilli: 500, models: null }];
  const run = { nodes, pods, seed: 1, policy: "default" as const, knownMix: false };
  const result = runAllocation(run);
  expect(result).toMatchObject({ allocatedPct: [75, 100, 100, 100, 100, 100], placed: 4 });
  expect(runAllocation(run)).toEqual(result);
});

test("each seed has its own order of the nodes, under which each stands once", () => {
  const node = { cpuMillis: 8000, memoryMib: 8, gpus: 2, model: "T4" };
  const nodes = Array.from({ length: 50 }, (_, at) => toNodeSpec({ ...node, id: `n${at}` }));
  const order = (seed: number): string[] =>
    renamed(nodes, seed)
      .map(({ id }) => id)
      .toSorted()
      .map((id) => id.slice(id.indexOf("-") + 1));
  const before = nodes.map(({ id }) => id);
  expect(order(1)).toEqual(order(1));
  expect(order(1)).not.toEqual(order(2));
  expect(order(1)).not.toEqual(before);
  expect(new Set(order(1))).toEqual(new Set(before));
  const { id: _, ...rest } = renamed(nodes, 1)[7]!;
  expect(nodes[7]).toMatchObject(rest);
});

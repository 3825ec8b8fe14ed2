import { expect, test } from "vitest";
import { nodesFrom, queueFrom } from "./what-if.ts";

test("nodes to add are so many like one, or so many with GPUs of a model", () => {
  expect(nodesFrom("4x node-abc")).toEqual({ count: 4, like: "nodes/node-abc" });
  expect(nodesFrom("2 x nodes/node-abc")).toEqual({ count: 2, like: "nodes/node-abc" });
  const many = { count: 16, gpus: 8, gpuModel: "NVIDIA H200" };
  expect(nodesFrom("16x 8 NVIDIA H200")).toEqual(many);
  expect(nodesFrom("16x 8x NVIDIA H200")).toEqual(many);
  expect(() => nodesFrom("many")).toThrow(/not understood/);
});

test("a queue is named with the values that change", () => {
  expect(queueFrom("projects/p,weight=3,limit=8")).toEqual({
    ...{ queue: "projects/p/queue", weight: 3, limitGpus: 8 },
  });
  expect(queueFrom("projects/p/users/key-1,limit=2,limit:NVIDIA H200=4,guaranteed:A10=1")).toEqual({
    queue: "projects/p/users/key-1/queue",
    limitGpus: 2,
    models: [
      { model: "NVIDIA H200", limitGpus: 4 },
      { model: "A10", guaranteedGpus: 1 },
    ],
  });
  expect(() => queueFrom("projects/p,limit:=3")).toThrow(/no value of a queue/);
  expect(() => queueFrom("projects/p,wait=3")).toThrow(/no value of a queue/);
});

import { create } from "@bufbuild/protobuf";
import { LeaseSchema } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { expect, test } from "vitest";
import { parseProgress, tellsOfCheckpoint } from "./progress.ts";

const lease = create(LeaseSchema, { attempt: "att-a" });
const range = create(LeaseSchema, { attempt: "att-a", elements: [{ first: 0, last: 9 }] });
const line = (text: string) => ({ kind: "progress", name: "att-a", line: text }) as const;

test.each([
  ['{"step": 3, "checkpoint": true}', true, 3n],
  ['{"checkpoint": {"step": 3}}', true, undefined],
  ['{"checkpoint": true}', true, undefined],
  ['{"step": 3, "checkpoint": false}', false, 3n],
  ['{"step": 3, "checkpoint": "no"}', false, 3n],
  ['{"step": 3}', false, 3n],
  ["null", false, undefined],
  ["checkpoint", false, undefined],
])("the line %s: checkpoint %s, step %s", (text, checkpoint, step) => {
  expect(tellsOfCheckpoint(line(text), lease)).toBe(checkpoint);
  expect(parseProgress(line(text), lease)?.step).toBe(step);
});

test("an element's checkpoint is not its range's", () => {
  expect(tellsOfCheckpoint(line('{"checkpoint": true}'), range)).toBe(false);
});

import { Fault } from "@fastgpu/domain/fault";
import { expect, test } from "vitest";
import { parseFilter } from "./filter.ts";

test.each([
  ["state = RUNNING", "state = $3", ["RUNNING"]],
  ["state != TASK_STATE_FAILED", "state <> $3", ["FAILED"]],
  ['display_name = "a b\\"c"', "display_name = $3", ['a b"c']],
  ["display_name : net", "strpos(display_name, $3) > 0", ["net"]],
  ["create_time > 1970-01-01T00:00:01Z", "created_ms > $3", [1000]],
  ["labels.team = vision", "labels ->> $3::text = $4", ["team", "vision"]],
  ["labels.team : *", "labels ? $3::text", ["team"]],
  ["state = QUEUED AND labels.a/b = 1", undefined, undefined],
  ["state=QUEUED AND labels.a=1", "state = $3 and labels ->> $4::text = $5", ["QUEUED", "a", "1"]],
  ["", "", []],
])("%s", (filter, text, values) => {
  if (text === undefined) return expect(() => parseFilter(filter, 3)).toThrow(Fault);
  expect(parseFilter(filter, 3)).toEqual({ text, values });
});

test.each([
  "state",
  "state = LOST",
  "state < RUNNING",
  "state = RUNNING OR state = QUEUED",
  "owner = me",
  "create_time > yesterday",
  "state = RUNNING AND",
  "1; drop table tasks",
])("%s is refused, naming the field", (filter) => {
  const refused = (() => {
    try {
      parseFilter(filter, 1);
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  expect(refused).toBeInstanceOf(Fault);
  expect((refused as Fault).violations[0]?.field).toBe("filter");
});

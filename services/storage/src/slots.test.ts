import { expect, test } from "vitest";
import { createSlots } from "./slots.ts";

test("no more than the total run at once, and no tenant takes more than half", () => {
  const slots = createSlots("uploads", 4);
  const first = [slots.take("a"), slots.take("a")];
  expect(() => slots.take("a")).toThrow(/too many uploads/);
  slots.take("b");
  const last = slots.take("c");
  expect(() => slots.take("d")).toThrow(/too many uploads/);
  last[Symbol.dispose]();
  slots.take("d");
  first[0]?.[Symbol.dispose]();
  first[0]?.[Symbol.dispose]();
  slots.take("a");
  expect(() => slots.take("a")).toThrow(/too many uploads/);
});

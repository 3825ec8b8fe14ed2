import { newId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { createLooked } from "./looked.ts";

const task = (n: number) => newId("task", n, new Uint8Array(10));

test("a revision that was acted upon covers itself and older ones, never newer ones", () => {
  const looked = createLooked();
  looked.note(task(1), 4);
  expect(looked.covers(task(1), 3n)).toBe(true);
  expect(looked.covers(task(1), 4n)).toBe(true);
  expect(looked.covers(task(1), 5n)).toBe(false);
  expect(looked.covers(task(2), 1n)).toBe(false);
});

test("what was noted longest ago is forgotten first", () => {
  const looked = createLooked(2);
  for (const n of [1, 2, 1, 3]) looked.note(task(n), 1);
  expect(looked.covers(task(2), 1n)).toBe(false);
  expect(looked.covers(task(1), 1n)).toBe(true);
  expect(looked.covers(task(3), 1n)).toBe(true);
});

import { existsSync, mkdirSync, mkdtempSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openCheckpoints } from "./store.ts";

const dayMs = 86_400_000;
const fresh = () => mkdtempSync(join(tmpdir(), "fastgpu-checkpoints-"));

test("what a task wrote stays until it has ended for good", async () => {
  using store = openCheckpoints({ dir: fresh(), keepMs: dayMs });
  const file = join(store.folderOf("task-a"), "epoch");
  const attempt = async (over: boolean | undefined): Promise<void> => {
    store.hold("task-a");
    await store.prepare("task-a", false);
    if (!existsSync(file)) writeFileSync(file, "3");
    await store.release("task-a", over === undefined ? undefined : { kind: "whole", over });
  };
  await attempt(false);
  expect(existsSync(file)).toBe(true);
  await attempt(undefined);
  expect(existsSync(file)).toBe(true);
  await attempt(true);
  expect(existsSync(store.folderOf("task-a"))).toBe(false);
});

test("only folders that nobody holds and nobody used for the time are swept", async () => {
  const dir = fresh();
  using store = openCheckpoints({ dir, keepMs: dayMs });
  const long = new Date(Date.now() - 2 * dayMs);
  for (const task of ["task-old", "task-new", "task-held"]) {
    await store.prepare(task, false);
    writeFileSync(join(store.folderOf(task), "state"), "x");
    if (task !== "task-new") utimesSync(store.folderOf(task), long, long);
  }
  store.hold("task-held");
  await store.sweep();
  const left = ["task-old", "task-new", "task-held"].filter((t) => existsSync(join(dir, t)));
  expect(left).toEqual(["task-new", "task-held"]);
});

test("of an array, elements that are over lose theirs, the others keep what they wrote", async () => {
  using store = openCheckpoints({ dir: fresh(), keepMs: dayMs });
  await store.prepare("task-a", false);
  const of = (index: number) => join(store.folderOf("task-a"), String(index));
  for (const index of [0, 1, 2, 3, 9]) mkdirSync(of(index));
  for (const index of [0, 1, 9]) writeFileSync(join(of(index), "state"), "x");
  store.hold("task-a");
  store.hold("task-a");
  const leased = [[0, 4]] as const;
  await store.release("task-a", { kind: "elements", leased, over: [[0, 1]] });
  expect([0, 1, 2, 3, 9].filter((index) => existsSync(of(index)))).toEqual([1, 9]);
  await store.release("task-a", { kind: "elements", leased: [[0, 10]], over: [[0, 10]] });
  expect(existsSync(store.folderOf("task-a"))).toBe(false);
});

test("a name that would leave the folder is refused", () => {
  using store = openCheckpoints({ dir: fresh(), keepMs: dayMs });
  expect(() => store.folderOf("../x")).toThrow(RangeError);
});

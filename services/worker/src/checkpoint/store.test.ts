import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
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
    await store.prepare("task-a", { openToAll: false, turn: undefined });
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
    await store.prepare(task, { openToAll: false, turn: undefined });
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
  await store.prepare("task-a", { openToAll: false, turn: undefined });
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

test("the newer one is used: what the newest attempt left here, or what a later one has put in storage", async () => {
  const dir = fresh();
  using store = openCheckpoints({ dir, keepMs: dayMs });
  const file = join(store.folderOf("task-a"), "deep", "state");
  let fetched = 0;
  /** An attempt that finds what it resumes from, and leaves its own. */
  const attempt = async (epoch: number, storedEpoch: number | undefined): Promise<string> => {
    const fetch = async (folder: string): Promise<void> => {
      fetched += 1;
      mkdirSync(join(folder, "deep"));
      writeFileSync(join(folder, "deep", "state"), `stored by ${storedEpoch}`);
    };
    const stored = storedEpoch === undefined ? undefined : { epoch: storedEpoch, fetch };
    store.hold("task-a");
    await store.prepare("task-a", { openToAll: true, turn: { epoch, stored } });
    const found = existsSync(file) ? readFileSync(file, "utf8") : "nothing";
    mkdirSync(join(store.folderOf("task-a"), "deep"), { recursive: true });
    writeFileSync(file, `left by ${epoch}`);
    await store.release("task-a", { kind: "whole", over: false });
    return found;
  };
  expect(await attempt(1, undefined)).toBe("nothing");
  // The attempts between ran elsewhere.
  expect(await attempt(4, 3)).toBe("stored by 3");
  // A container's user can write what was fetched.
  expect(statSync(file).mode & 0o777).toBe(0o666);
  // Its worker was lost before it could store anything; coming back here, nothing is lost.
  expect(await attempt(6, 3)).toBe("left by 4");
  expect(await attempt(7, 6)).toBe("left by 6");
  expect(fetched).toBe(1);
});

test("a fetch that breaks off leaves what was here, and the next one tries again", async () => {
  using store = openCheckpoints({ dir: fresh(), keepMs: dayMs });
  const file = join(store.folderOf("task-a"), "state");
  const prepare = (fetch: (folder: string) => Promise<void>) =>
    store.prepare("task-a", { openToAll: false, turn: { epoch: 3, stored: { epoch: 2, fetch } } });
  await store.prepare("task-a", { openToAll: false, turn: { epoch: 1, stored: undefined } });
  writeFileSync(file, "left by 1");
  const broken = prepare(async (folder) => {
    writeFileSync(join(folder, "state"), "half");
    throw new Error("storage went away");
  });
  await expect(broken).rejects.toThrow("storage went away");
  expect(readFileSync(file, "utf8")).toBe("left by 1");
  await prepare(async (folder) => writeFileSync(join(folder, "state"), "stored by 2"));
  expect(readFileSync(file, "utf8")).toBe("stored by 2");
});

test("a name that would leave the folder is refused", () => {
  using store = openCheckpoints({ dir: fresh(), keepMs: dayMs });
  expect(() => store.folderOf("../x")).toThrow(RangeError);
});

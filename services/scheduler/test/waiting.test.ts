import { randomBytes } from "node:crypto";
import { idToUuid, newId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { expect, test } from "vitest";
import { createMirror, oneMoment } from "../src/cycle/mirror.ts";
import { insertTasks } from "../src/store/submits.ts";
import { readTasks } from "../src/store/tasks.ts";
import { openCore } from "./core.ts";

const org = newId("org", 1_000, randomBytes(10));
const project = newId("proj", 1_000, randomBytes(10));

const clock = { nowMs: () => 100_000 };

interface Wanted {
  readonly of?: { org: OrgId; project: ProjectId };
  readonly atMs: number;
  readonly gpus?: number;
  readonly priority?: number;
  readonly elements?: number;
  readonly waitingFor?: number;
}

/** Stores queued tasks; answers their ids. */
async function queue(db: Querier, wanted: readonly Wanted[]): Promise<TaskId[]> {
  const tasks = wanted.map(({ of = { org, project }, atMs, gpus = 1, priority = 0, ...more }) => ({
    id: newId("task", atMs, randomBytes(10)),
    ...of,
    task: {
      displayName: "",
      labels: {},
      spec: new Uint8Array(),
      demand: {
        runtime: "process" as const,
        gpuCount: gpus,
        gpuModels: ["Simulated H200"],
        gpuMinMemoryMib: 0,
        simulatedOk: true,
        cpuMillis: 1_000,
        memoryMib: 512,
        diskMib: 0,
      },
      replicas: 1,
      topology: {},
      priority,
      preemptible: false,
      startAfterMs: 0,
      retry: { maxRetries: 3, retryOn: [] },
      maxRuntimeMs: 60_000,
      stopGraceMs: 1_000,
      dependencies: [],
      array:
        more.elements === undefined ? undefined : { count: more.elements, parallelism: 1_000_000 },
    },
    user: "user-a",
    state: "QUEUED" as const,
    waitingFor: more.waitingFor ?? 0,
    nowMs: atMs,
    traceparent: "",
    request: undefined,
    events: [],
  }));
  await insertTasks(db, tasks);
  return tasks.map(({ id }) => id);
}

const ranBefore = statement(
  "test_ran_before",
  "update tasks set attempt_count = 1, epoch = 4 where id = $1",
);
const cancel = statement("test_cancel", "update tasks set cancel_requested = true where id = $1");

test("a picture rebuilt from the database equals the one that followed every change", async () => {
  await using db = await openCore();
  const live = createMirror(clock);
  await transaction(db.core, (tx) => live.rebuild(tx), oneMoment);
  const ids = await queue(
    db.core,
    Array.from({ length: 300 }, (_, at) => ({
      of: { org, project: newId("proj", at % 3, new Uint8Array(10)) },
      atMs: 1_000 + at,
      gpus: 1 + (at % 4),
      priority: at % 2,
    })),
  );
  const [blocked] = await queue(db.core, [{ atMs: 2_000, waitingFor: 1 }]);
  const [array] = await queue(db.core, [{ atMs: 2_001, elements: 40 }]);
  const all = [...ids, blocked!, array!];
  await live.refresh(db.core, { tasks: all, nodes: [] });
  for (const id of ids.slice(0, 20)) await db.core.query(ranBefore, [idToUuid(id)]);
  for (const id of ids.slice(20, 30)) await db.core.query(cancel, [idToUuid(id)]);
  await live.refresh(db.core, { tasks: ids.slice(0, 30), nodes: [] });

  const rebuilt = createMirror(clock);
  await transaction(db.core, (tx) => rebuilt.rebuild(tx), oneMoment);
  expect(rebuilt.waiting.size).toBe(300 - 10 + 1);
  expect(rebuilt.waiting.hash()).toBe(live.waiting.hash());
  const byId = (mirror: typeof live) =>
    mirror.planState().tasks.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  expect(byId(rebuilt)).toEqual(byId(live));
  await db.core.query(cancel, [idToUuid(ids[99]!)]);
  await rebuilt.refresh(db.core, { tasks: [ids[99]!], nodes: [] });
  expect(rebuilt.waiting.hash()).not.toBe(live.waiting.hash());
});

test("what commits while a picture is read is in it wholly or not at all, and comes in by its mark", async () => {
  await using db = await openCore();
  const [kept, cancelled, array] = await queue(db.core, [
    { atMs: 1_000 },
    { atMs: 1_001 },
    { atMs: 1_002, elements: 5 },
  ]);
  const mirror = createMirror(clock);
  const before = createMirror(clock);
  await transaction(db.core, (tx) => before.rebuild(tx), oneMoment);
  const marked = await transaction(
    db.core,
    async (tx) => {
      await readTasks(tx, [kept!]);
      // A kind of task that the snapshot does not know, and the end of one that it does.
      const late = await queue(db.core, [{ atMs: 1_003, gpus: 8, priority: 3 }]);
      await db.core.query(cancel, [idToUuid(cancelled!)]);
      await db.core.query(cancel, [idToUuid(array!)]);
      expect(await mirror.rebuild(tx)).toEqual([]);
      return [...late, cancelled!, array!];
    },
    oneMoment,
  );
  expect(mirror.waiting.hash()).toBe(before.waiting.hash());
  await mirror.refresh(db.core, { tasks: marked, nodes: [] });
  const after = createMirror(clock);
  const toFold = await transaction(db.core, (tx) => after.rebuild(tx), oneMoment);
  expect(toFold).toEqual([array]);
  expect(after.waiting.size).toBe(2);
  expect(mirror.waiting.hash()).toBe(after.waiting.hash());
});

test("a task in the columns means to the planner what its row says", async () => {
  await using db = await openCore();
  const mirror = createMirror(clock);
  const [id] = await queue(db.core, [{ atMs: 5_000, gpus: 2, priority: 7 }]);
  const [row] = await readTasks(db.core, [id!]);
  await transaction(db.core, (tx) => mirror.rebuild(tx), oneMoment);
  const [planned] = mirror.planState().tasks;
  const { demand, priority, stopGraceMs, maxRuntimeMs, epoch } = row!;
  expect(planned).toMatchObject({ id, org, project, demand, priority, stopGraceMs, maxRuntimeMs });
  expect(planned).toMatchObject({ epoch, submittedMs: 5_000, attainedGpuMs: 0 });
});

test("a plan sees the first of every line and the number behind them, and the next ones as those leave", async () => {
  await using db = await openCore();
  const mirror = createMirror(clock, { tasks: 8, perLine: 4 });
  const long = await queue(
    db.core,
    Array.from({ length: 10 }, (_, at) => ({ atMs: 1_000 + at })),
  );
  const [lone] = await queue(db.core, [{ atMs: 9_000, gpus: 2 }]);
  await transaction(db.core, (tx) => mirror.rebuild(tx), oneMoment);
  const seen = () => mirror.planState().tasks.map(({ id }) => id);
  expect(new Set(seen())).toEqual(new Set([...long.slice(0, 4), lone]));
  expect(mirror.planState().behind).toMatchObject([{ project, tasks: 6, gpus: 6 }]);
  const before = mirror.planState().tasks.find(({ id }) => id === long[2]);
  mirror.noteLeased(long.slice(0, 2));
  expect(new Set(seen())).toEqual(new Set([...long.slice(2, 6), lone]));
  expect(mirror.planState().tasks.find(({ id }) => id === long[2])).toBe(before);
  // More lines than there is room for: the first of the first lines of every leaf.
  await queue(
    db.core,
    Array.from({ length: 20 }, (_, at) => ({ atMs: 10_000 + at, gpus: 3 + at })),
  );
  await transaction(db.core, (tx) => mirror.rebuild(tx), oneMoment);
  expect(mirror.planState().tasks).toHaveLength(8);
  const first = mirror.planState().tasks.map(({ id }) => id);
  expect(first).toContain(long[0]);
  expect(mirror.planState().behind).toMatchObject([{ project, tasks: 31 - 8 }]);
});

import { idToUuid } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cutAllocations } from "../src/transition/apply.ts";
import { lockOpenAllocations, storeCuts } from "../src/store/allocations.ts";
import { readNodesSavedSince, storeSaved } from "../src/store/attempts.ts";
import { chargeUsage, readPastUsage } from "../src/store/past-usage.ts";
import { lockQueue, storeQueue } from "../src/store/queues.ts";
import { Fleet, tenant } from "./fleet.ts";

const hourMs = 3_600_000;

let fleet: Fleet;
beforeEach(async () => {
  fleet = await Fleet.open(["H100", "H100", "A100"]);
});
afterEach(async () => {
  await fleet[Symbol.asyncDispose]();
});

const planOf = async (task: Awaited<ReturnType<Fleet["submit"]>>) =>
  (await fleet.mirror()).waiting.get(task);

describe("a lineage", () => {
  const me = tenant();

  /** Runs a task for an hour and ends it so. */
  async function anHour(exitClass: "user_exit" | "ok" | "preempted", wish = {}) {
    const task = await fleet.submit(me, wish);
    const attempt = await fleet.run(task, [0]);
    fleet.nowMs += hourMs;
    await fleet.end(attempt, exitClass);
    return task;
  }

  test("carries service over attempts, and from a failed task to the next one, once", async () => {
    const failed = await anHour("user_exit");
    expect(await fleet.task(failed)).toMatchObject({ state: "FAILED" });
    const [again, more] = [await fleet.submit(me), await fleet.submit(me)];
    expect(await planOf(again)).toMatchObject({ attainedGpuMs: hourMs });
    const attempt = await fleet.run(again, [0]);
    expect((await fleet.attempt(attempt)).atLease.attainedGpuMs).toBe(hourMs);
    expect((await fleet.task(again)).carried).toEqual({ gpuMs: hourMs, preemptions: 0 });
    // Taken over: the next one begins afresh.
    expect(await planOf(more)).toMatchObject({ attainedGpuMs: 0 });
    fleet.nowMs += hourMs;
    await fleet.end(attempt, "node_lost");
    expect(await planOf(again)).toMatchObject({ attainedGpuMs: 2 * hourMs, preemptions: 0 });
    // And is carried on by who is next, with its own.
    await fleet.sql(
      "update tasks set state = 'CANCELLED', prev_state = state, ended_ms = $2 where id = $1",
      idToUuid(again),
      fleet.nowMs,
    );
    expect(await planOf(more)).toMatchObject({ attainedGpuMs: 2 * hourMs });
  });

  test("ends with success, is of one user and one program, and is forgotten after a week", async () => {
    await anHour("ok");
    expect(await planOf(await fleet.submit(me))).toMatchObject({ attainedGpuMs: 0 });
    await anHour("user_exit", { program: "other" });
    const same = { program: "other", spec: { priority: 5, env: { SEED: "7" } } };
    expect(await planOf(await fleet.submit(me, same))).toMatchObject({ attainedGpuMs: hourMs });
    expect(await planOf(await fleet.submit(me))).toMatchObject({ attainedGpuMs: 0 });
    const somebody = { ...me, user: "key-2" };
    expect(await planOf(await fleet.submit(somebody, same))).toMatchObject({ attainedGpuMs: 0 });
    fleet.nowMs += 8 * 24 * hourMs;
    expect(await planOf(await fleet.submit(me, same))).toMatchObject({ attainedGpuMs: 0 });
  });
});

describe("past usage", () => {
  const half = () => ({ nowMs: fleet.nowMs, halfLifeMs: 24 * hourMs });
  const charge = () => transaction(fleet.core, (tx) => chargeUsage(tx, half()));

  test("charges each millisecond once to who had it, while it runs and at its end, and halves", async () => {
    const me = tenant();
    const task = await fleet.submit(me, { gpus: 2 });
    const attempt = await fleet.run(task, [0, 1]);
    expect(await charge()).toEqual([]);
    fleet.nowMs += hourMs;
    await transaction(fleet.core, async (tx) => {
      const members = [{ id: attempt, member: 0 }];
      const held = [...(await lockOpenAllocations(tx, members)).values()].flat();
      const to = { endMs: fleet.nowMs, released: false, final: false, nowMs: fleet.nowMs };
      await storeCuts(tx, cutAllocations(await fleet.attempt(attempt), held, to).cuts);
    });
    expect(await charge()).toMatchObject([{ ...me, gpuMs: 2 * hourMs }]);
    expect(await charge()).toEqual([]);
    fleet.nowMs += 24 * hourMs;
    await fleet.end(attempt, "ok");
    // Half of the first two hours, and the 48 GPU-hours since.
    expect(await charge()).toMatchObject([{ ...me, gpuMs: hourMs + 48 * hourMs }]);
    expect(await charge()).toEqual([]);
    // A new leader has it all, as of its own time.
    fleet.nowMs += 24 * hourMs;
    expect((await fleet.mirror()).planState().usage).toEqual([{ ...me, gpuMs: 24.5 * hourMs }]);
  });

  test("is told apart by user, and racing charges never count anything twice", async () => {
    const me = tenant();
    const other = { ...me, user: "key-2" };
    for (const who of [me, other]) {
      const attempt = await fleet.run(await fleet.submit(who), [0]);
      fleet.nowMs += hourMs;
      await fleet.end(attempt, "ok");
    }
    await Promise.all(Array.from({ length: 8 }, charge));
    expect(await readPastUsage(fleet.core)).toMatchObject([
      { ...me, gpuMs: hourMs },
      { ...other, gpuMs: hourMs },
    ]);
  });
});

test("the plan sees what runs: who, since when, its checkpoint, its past and its latest end", async () => {
  const me = tenant();
  const spec = { preemptible: true, priority: 7 };
  const first = await fleet.submit(me, { spec });
  const submittedMs = fleet.nowMs;
  const lost = await fleet.run(first, [0]);
  fleet.nowMs += hourMs;
  await fleet.end(lost, "node_lost");
  expect(await planOf(first)).toMatchObject({
    ...me,
    ...spec,
    attainedGpuMs: hourMs,
    heldMs: hourMs,
  });
  fleet.nowMs += hourMs;
  const attempt = await fleet.run(first, [0]);
  const savedMs = fleet.nowMs + 60_000;
  const saved = { attempt, member: 0, epoch: 2, savedMs };
  expect(await storeSaved(fleet.core, fleet.node, [{ ...saved, epoch: 1 }])).toBe(0);
  expect(await storeSaved(fleet.core, fleet.node, [saved])).toBe(1);
  // What comes late tells nothing new.
  expect(await storeSaved(fleet.core, fleet.node, [{ ...saved, savedMs: savedMs - 1 }])).toBe(0);
  expect(await readNodesSavedSince(fleet.core, savedMs - 1)).toEqual([fleet.node]);
  expect(await readNodesSavedSince(fleet.core, savedMs)).toEqual([]);
  const [node] = (await fleet.mirror()).planState().nodes;
  expect(node?.running).toMatchObject([
    {
      ...{ ...me, ...spec, task: first, attempt, submittedMs, savedMs, gpus: fleet.at(0) },
      ...{ runningSinceMs: fleet.nowMs, attainedGpuMs: hourMs, preemptions: 0, stopping: false },
      endsByMs: fleet.nowMs + 24 * hourMs + 10_000,
    },
  ]);
});

describe("limits by model", () => {
  test("hold for organisation, project and user, beside the limit over all", async () => {
    const me = tenant();
    const limit = async (user: string | undefined, models: object) =>
      transaction(fleet.core, async (tx) => {
        const queue = await lockQueue(tx, { ...me, user }, 0);
        await storeQueue(tx, { ...queue, models: { ...queue.models, ...models } }, 0);
      });
    await limit(undefined, { H100: { guaranteedGpus: 0, limitGpus: 1 } });
    const wide = await fleet.submit(me, { gpus: 2 });
    expect((await fleet.tryLease(wide, [0, 1])).rejected).toHaveLength(1);
    expect((await fleet.tryLease(wide, [0, 2])).leased).toHaveLength(1);
    const next = await fleet.submit(me);
    expect((await fleet.tryLease(next, [1])).rejected).toHaveLength(1);
    const stranger = await fleet.submit(tenant());
    expect((await fleet.tryLease(stranger, [1])).leased).toHaveLength(1);
  });

  test("a user's own limit binds that user alone", async () => {
    const me = tenant();
    await transaction(fleet.core, async (tx) => {
      const queue = await lockQueue(tx, me, 0);
      const models = { H100: { guaranteedGpus: 0, limitGpus: 0 } };
      await storeQueue(tx, { ...queue, models }, 0);
    });
    const mine = await fleet.submit(me);
    expect((await fleet.tryLease(mine, [0])).rejected).toHaveLength(1);
    expect((await fleet.tryLease(mine, [2])).leased).toHaveLength(1);
    const theirs = await fleet.submit({ ...me, user: "key-2" });
    expect((await fleet.tryLease(theirs, [0])).leased).toHaveLength(1);
  });

  test("64 racing leases never pass it (I7)", async () => {
    await fleet[Symbol.asyncDispose]();
    fleet = await Fleet.open(Array.from({ length: 64 }, (_, at) => (at % 2 ? "H100" : "A100")));
    const me = tenant();
    await transaction(fleet.core, async (tx) => {
      const queue = await lockQueue(tx, { ...me, user: undefined }, 0);
      await storeQueue(tx, { ...queue, models: { H100: { guaranteedGpus: 0, limitGpus: 5 } } }, 0);
    });
    const tasks = [];
    for (let at = 0; at < 64; at += 1) tasks.push(await fleet.submit(me));
    const done = await Promise.all(tasks.map((task, at) => fleet.tryLease(task, [at])));
    const leased = done.flatMap((each, at) => (each.leased.length > 0 ? [at % 2] : []));
    expect([leased.length, leased.filter((odd) => odd === 1).length]).toEqual([37, 5]);
  });
});

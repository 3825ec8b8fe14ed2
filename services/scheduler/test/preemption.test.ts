import { idToUuid, type TaskId } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { foldArrays } from "../src/cycle/arrays.ts";
import { commitPreemptions } from "../src/cycle/preempt.ts";
import { releaseStaleReservations } from "../src/store/reservations.ts";
import { readWork } from "../src/store/work.ts";
import { Fleet, inFavourOf, leaderEpoch, tenant } from "./fleet.ts";

const preemptible = { spec: { preemptible: true } };

let fleet: Fleet;
beforeEach(async () => {
  fleet = await Fleet.open(["H100", "H100"]);
});
afterEach(async () => {
  await fleet[Symbol.asyncDispose]();
});

/** A preemptible task that runs on these GPUs. */
async function runs(of = tenant(), positions = [0], wish: Parameters<Fleet["submit"]>[1] = {}) {
  const task = await fleet.submit(of, { gpus: positions.length, ...preemptible, ...wish });
  const attempt = await fleet.run(task, positions);
  return { task, attempt, gpus: fleet.at(...positions) };
}

describe("a preemption", () => {
  test("stops the victim, keeps its GPUs for the preemptor alone, and costs the victim no retry", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant());
    const other = await fleet.submit(tenant());
    const { stopped, rejected } = await fleet.preempt(inFavourOf(preemptor, victim));
    expect([stopped.length, rejected.length]).toEqual([1, 0]);
    expect(await fleet.task(victim.task)).toMatchObject({
      state: "STOPPING",
      statusMessage:
        "stopped in favour of a task of another organisation: it queues again and goes on from its checkpoint",
    });
    expect(await fleet.gpu(0)).toMatchObject({ state: "LEASED", reserved: { for: preemptor } });
    expect(await readWork(fleet.core, [fleet.node])).toMatchObject([
      { attempt: victim.attempt, stop: { reason: "preempted", graceMs: 10_000 } },
    ]);

    await fleet.report(victim.attempt, { kind: "stopping" });
    await fleet.end(victim.attempt, "preempted");
    expect(await fleet.task(victim.task)).toMatchObject({
      state: "QUEUED",
      preemptions: 1,
      counts: { retries: 0, freeRequeues: 0 },
    });
    expect(await fleet.attempt(victim.attempt)).toMatchObject({
      exitClass: "preempted",
      message: expect.stringContaining("in favour of a task of another organisation"),
    });
    expect(await fleet.gpu(0)).toMatchObject({ state: "IDLE", reserved: { for: preemptor } });
    // What a new leader reads has it too.
    const [node] = (await fleet.mirror()).planState().nodes;
    expect(node?.gpus[0]).toMatchObject({ free: true, reservedFor: preemptor });

    expect((await fleet.tryLease(other, [0])).rejected).toHaveLength(1);
    expect((await fleet.tryLease(victim.task, [0])).rejected).toHaveLength(1);
    expect((await fleet.tryLease(preemptor, [0])).leased).toHaveLength(1);
    expect((await fleet.gpu(0)).reserved).toBeUndefined();
  });

  test("keeps what else the preemptor's place needs, as far as it is there and kept for nobody else", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant(), { gpus: 2 });
    const place = [{ node: fleet.node, gpus: fleet.at(1) }];
    const { beside, rejected } = await fleet.preempt({
      ...inFavourOf(preemptor, victim),
      beside: place,
    });
    expect([beside, rejected]).toEqual([[fleet.node], []]);
    expect(await fleet.gpu(1)).toMatchObject({ state: "IDLE", reserved: { for: preemptor } });
    const other = await fleet.submit(tenant());
    expect((await fleet.tryLease(other, [1])).rejected).toHaveLength(1);
    await fleet.end(victim.attempt, "preempted");
    expect((await fleet.tryLease(preemptor, [0, 1])).leased).toHaveLength(1);
    expect((await fleet.gpu(1)).reserved).toBeUndefined();
  });

  test("goes on without what somebody else was quicker to get", async () => {
    const victim = await runs();
    const quicker = await fleet.submit(tenant());
    await fleet.sql(
      "update gpus set reserved_task_id = $1, reserved_until_ms = 1000000000000000 where id = $2",
      idToUuid(quicker),
      idToUuid(fleet.at(1)[0]!),
    );
    const preemptor = await fleet.submit(tenant(), { gpus: 2 });
    const { stopped, beside } = await fleet.preempt({
      ...inFavourOf(preemptor, victim),
      beside: [{ node: fleet.node, gpus: fleet.at(1) }],
    });
    expect([stopped.length, beside]).toEqual([1, []]);
    expect((await fleet.gpu(0)).reserved).toMatchObject({ for: preemptor });
    expect((await fleet.gpu(1)).reserved).toMatchObject({ for: quicker });
  });

  test("keeps the place of a victim that moves while it stops, for it alone", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant(), { gpus: 1 });
    const movesTo = { node: fleet.node, gpus: fleet.at(1) };
    const { beside, rejected } = await fleet.preempt({
      ...inFavourOf(preemptor, victim),
      movesTo,
    });
    expect([beside, rejected]).toEqual([[fleet.node], []]);
    expect(await fleet.task(victim.task)).toMatchObject({
      state: "STOPPING",
      statusMessage:
        "moved to make room for a task of another organisation: it goes on from its checkpoint on other GPUs",
    });
    const release = () => releaseStaleReservations(fleet.core, fleet.nowMs);
    expect(await release()).toEqual([]);
    await fleet.report(victim.attempt, { kind: "stopping" });
    await fleet.report(victim.attempt, { kind: "finalizing" });
    expect(await release()).toEqual([]);
    await fleet.end(victim.attempt, "preempted");
    expect(await release()).toEqual([]);
    expect(await fleet.gpu(1)).toMatchObject({ state: "IDLE", reserved: { for: victim.task } });
    expect((await fleet.tryLease(preemptor, [1])).rejected).toHaveLength(1);
    expect((await fleet.tryLease(victim.task, [1])).leased).toHaveLength(1);
    expect((await fleet.gpu(1)).reserved).toBeUndefined();
    expect(await fleet.gpu(0)).toMatchObject({ state: "IDLE", reserved: { for: preemptor } });
  });

  test("keeps the place of the last elements of an array too", async () => {
    const array = { array: { count: 2 }, preemptible: true };
    const task = await fleet.submit(tenant(), { spec: array });
    const attempt = await fleet.run(task, [0], 2);
    const preemptor = await fleet.submit(tenant(), { gpus: 1 });
    const movesTo = { node: fleet.node, gpus: fleet.at(1) };
    const { rejected } = await fleet.preempt({
      ...inFavourOf(preemptor, { task, attempt, gpus: fleet.at(0) }),
      movesTo,
    });
    expect(rejected).toEqual([]);
    expect(await releaseStaleReservations(fleet.core, fleet.nowMs)).toEqual([]);
    expect((await fleet.gpu(1)).reserved).toMatchObject({ for: task });
  });

  test("stops nobody who should move where that place is gone", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant(), { gpus: 1 });
    const quicker = await runs(tenant(), [1]);
    const moves = {
      ...inFavourOf(preemptor, victim),
      movesTo: { node: fleet.node, gpus: fleet.at(1) },
    };
    expect((await fleet.preempt(moves)).rejected).toHaveLength(1);
    await fleet.end(quicker.attempt, "ok");
    await fleet.sql(
      "update gpus set reserved_task_id = $1, reserved_until_ms = 1000000000000000 where id = $2",
      idToUuid(quicker.task),
      idToUuid(fleet.at(1)[0]!),
    );
    expect((await fleet.preempt(moves)).rejected).toHaveLength(1);
    expect(await fleet.task(victim.task)).toMatchObject({ state: "RUNNING" });
  });

  test("tells only what the victim's owner may know", async () => {
    const mine = tenant();
    const message = async (preemptor: TaskId, positions: readonly number[]) => {
      const victim = await runs(mine, [...positions]);
      await fleet.preempt(inFavourOf(preemptor, victim));
      return (await fleet.task(victim.task)).statusMessage;
    };
    const same = await fleet.submit(mine);
    expect(await message(same, [0])).toContain(same);
    const sameOrg = await fleet.submit(tenant({ org: mine.org }));
    const told = await message(sameOrg, [1]);
    expect(told).toContain("a task of another project");
    expect(told).not.toContain(sameOrg);
  });

  test.each([
    ["it is not preemptible", () => runs(tenant(), [0], { spec: {} })],
    [
      "it is being cancelled",
      async () => {
        const victim = await runs();
        await fleet.sql(
          "update attempts set state = 'STOPPING', prev_state = state, stop_class = 'cancelled'",
        );
        return victim;
      },
    ],
    [
      "it has ended",
      async () => {
        const victim = await runs();
        await fleet.end(victim.attempt, "ok");
        return victim;
      },
    ],
    [
      "it was preempted for somebody else",
      async () => {
        const victim = await runs();
        await fleet.preempt(inFavourOf(await fleet.submit(tenant()), victim));
        return victim;
      },
    ],
  ])("is rejected whole where %s", async (_why, victim) => {
    const bad = await victim();
    const good = await runs(tenant(), [1]);
    const preemptor = await fleet.submit(tenant(), { gpus: 2 });
    const { stopped, rejected } = await fleet.preempt(
      inFavourOf(preemptor, good),
      inFavourOf(preemptor, bad),
    );
    expect([stopped.length, rejected.length]).toEqual([0, 2]);
    expect(await fleet.task(good.task)).toMatchObject({ state: "RUNNING" });
    expect((await fleet.gpu(1)).reserved).toBeUndefined();
  });

  test("is rejected where the preemptor waits no more, and a stale leader's is fenced", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant());
    const preemption = inFavourOf(preemptor, victim);
    await expect(
      transaction(fleet.core, (tx) =>
        commitPreemptions(tx, [preemption], {
          leaderEpoch: leaderEpoch - 1n,
          nowMs: fleet.nowMs,
          epochs: new Map([[preemptor, 0]]),
        }),
      ),
    ).rejects.toMatchObject({ reason: "FENCED" });
    await fleet.tryLease(preemptor, [1]);
    expect((await fleet.preempt(preemption)).stopped).toHaveLength(0);
    expect(await fleet.task(victim.task)).toMatchObject({ state: "RUNNING" });
  });

  test("of a victim that ends well before the stop reaches it leaves a success", async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant());
    await fleet.preempt(inFavourOf(preemptor, victim));
    await fleet.end(victim.attempt, "ok");
    expect(await fleet.task(victim.task)).toMatchObject({ state: "SUCCEEDED", preemptions: 0 });
    expect((await fleet.tryLease(preemptor, [0])).leased).toHaveLength(1);
  });

  test("of a task that is cancelled meanwhile ends it", async () => {
    const victim = await runs();
    await fleet.preempt(inFavourOf(await fleet.submit(tenant()), victim));
    await fleet.sql(
      "update tasks set cancel_requested = true where id = $1",
      idToUuid(victim.task),
    );
    await fleet.end(victim.attempt, "preempted");
    expect(await fleet.task(victim.task)).toMatchObject({ state: "CANCELLED", preemptions: 1 });
  });

  test("of an array gives back the elements that had not ended, at no cost", async () => {
    const array = { array: { count: 10 }, preemptible: true, retry: { maxRetries: 0 } };
    const task = await fleet.submit(tenant(), { spec: array });
    const attempt = await fleet.run(task, [0], 6);
    const preemptor = await fleet.submit(tenant());
    const victim = { task, attempt, gpus: fleet.at(0) };
    expect((await fleet.preempt(inFavourOf(preemptor, victim))).stopped).toHaveLength(1);
    expect(await fleet.task(task)).toMatchObject({ state: "RUNNING" });
    await fleet.end(attempt, "preempted", { elementResults: { ok: [{ first: 0, last: 2 }] } });
    const at = { leaderEpoch, nowMs: fleet.nowMs, cancelled: [] };
    await transaction(fleet.core, (tx) => foldArrays(tx, at));
    expect(await fleet.task(task)).toMatchObject({
      state: "QUEUED",
      preemptions: 1,
      counts: { retries: 0, freeRequeues: 0 },
      array: {
        succeeded: [{ first: 0, last: 2 }],
        pending: [{ first: 3, last: 9 }],
        failed: [],
        leased: [],
      },
    });
  });
});

describe("a reservation", () => {
  const reserved = async () => {
    const victim = await runs();
    const preemptor = await fleet.submit(tenant());
    await fleet.preempt(inFavourOf(preemptor, victim));
    await fleet.end(victim.attempt, "preempted");
    return preemptor;
  };
  const release = () => releaseStaleReservations(fleet.core, fleet.nowMs);

  test("stands while its task waits, and until its time", async () => {
    const preemptor = await reserved();
    expect(await release()).toEqual([]);
    const { untilMs = 0 } = (await fleet.gpu(0)).reserved ?? {};
    // The grace of the victim is in it.
    expect(untilMs).toBeGreaterThan(fleet.nowMs + 10_000);
    fleet.nowMs = untilMs;
    const other = await fleet.submit(tenant());
    expect((await fleet.tryLease(other, [0])).leased).toHaveLength(1);
    expect((await fleet.gpu(0)).reserved).toBeUndefined();
    expect(await fleet.task(preemptor)).toMatchObject({ state: "QUEUED" });
  });

  test("goes with its time", async () => {
    await reserved();
    fleet.nowMs = (await fleet.gpu(0)).reserved?.untilMs ?? 0;
    expect(await release()).toEqual([fleet.node]);
    expect((await fleet.gpu(0)).reserved).toBeUndefined();
  });

  test.each([
    "update tasks set cancel_requested = true where id = $1",
    "update tasks set state = 'CANCELLED', prev_state = 'QUEUED' where id = $1",
    "update tasks set waiting_for = 1 where id = $1",
    "update gpus set state = 'UNKNOWN' where reserved_task_id = $1",
  ])("goes after: %s", async (change) => {
    const preemptor = await reserved();
    await fleet.sql(change, idToUuid(preemptor));
    expect(await release()).toEqual([fleet.node]);
    expect((await fleet.gpu(0)).reserved).toBeUndefined();
  });

  test("goes when its task starts elsewhere", async () => {
    const preemptor = await reserved();
    expect((await fleet.tryLease(preemptor, [1])).leased).toHaveLength(1);
    expect((await fleet.gpu(0)).reserved).toBeUndefined();
  });
});

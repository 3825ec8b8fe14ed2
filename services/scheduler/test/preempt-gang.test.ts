import { parseMemberName } from "@fastgpu/domain/member-name";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import { expect, test } from "vitest";
import { commitPreemptions } from "../src/cycle/preempt.ts";
import { storeSaved } from "../src/store/attempts.ts";
import { readWork } from "../src/store/work.ts";
import { dyingAfter, factsOf, Fleet, inFavourOf, leaderEpoch, startMs, tenant } from "./fleet.ts";

const me = tenant();

/** A preemptible gang of three that runs on two nodes, and a task that wants one of its GPUs. */
async function gangAndPreemptor(fleet: Fleet) {
  const gang = await fleet.submit(me, { spec: { replicas: 3, preemptible: true } });
  const funded = await fleet.placed(gang, [
    [0, 0],
    [0, 1],
    [1, 0],
  ]);
  expect((await fleet.commit(funded)).leased).toHaveLength(1);
  const facts = factsOf(funded);
  await fleet.tell(...[0, 1, 2].map((member) => facts.running(member, 1)));
  const preemptor = await fleet.submit(me);
  const gpus = [fleet.nodes[1]!.gpus[0]!];
  const preemption = inFavourOf(preemptor, { attempt: funded.attempt, task: gang, gpus });
  const at = { leaderEpoch, nowMs: startMs + 2, epochs: new Map([[preemptor, 0]]) };
  const preempt = (tx: Tx) => commitPreemptions(tx, [preemption], at);
  return { gang, attempt: funded.attempt, facts, preemptor, preempt };
}

const reservedIn = async (fleet: Fleet) =>
  (await fleet.gpus()).filter((gpu) => gpu.reserved !== undefined);

test("a gang is stopped whole, on all of its nodes, and waits again once its last member has ended", async () => {
  await using fleet = await Fleet.open(["sim", "sim"], ["sim"]);
  const { gang, attempt, facts, preemptor, preempt } = await gangAndPreemptor(fleet);
  const { stopped } = await transaction(fleet.core, preempt);
  expect(stopped).toHaveLength(3);
  expect((await fleet.members(attempt)).map(({ state }) => state)).toEqual(
    Array.from({ length: 3 }, () => "STOPPING"),
  );
  const work = await readWork(
    fleet.core,
    fleet.nodes.map(({ id }) => id),
  );
  expect(work.map(({ stop }) => stop?.reason)).toEqual(["preempted", "preempted", "preempted"]);
  // Only what the plan asked for is kept; the others are free for anybody.
  expect(await reservedIn(fleet)).toMatchObject([{ reserved: { for: preemptor } }]);

  await fleet.tell(facts.ended(1, 3, "preempted"), facts.ended(0, 3, "preempted"));
  expect(await fleet.task(gang)).toMatchObject({ state: "STOPPING", preemptions: 0 });
  await fleet.tell(facts.ended(2, 4, "preempted"));
  expect(await fleet.task(gang)).toMatchObject({
    state: "QUEUED",
    preemptions: 1,
    counts: { retries: 0, freeRequeues: 0 },
    statusMessage: expect.stringContaining(`in favour of ${preemptor}`),
  });
  const again = await fleet.placed(gang, [
    [0, 0],
    [0, 1],
    [1, 0],
  ]);
  expect((await fleet.commit(again)).rejected).toHaveLength(1);
  expect((await fleet.commit(await fleet.placed(preemptor, [[1, 0]]))).leased).toHaveLength(1);
  expect(await reservedIn(fleet)).toEqual([]);
});

test("a crash at any statement of a preemption leaves nothing of it", async () => {
  await using fleet = await Fleet.open(["sim", "sim"], ["sim"]);
  const { gang, attempt, preempt } = await gangAndPreemptor(fleet);
  let crashes = 0;
  for (let statements = 0; ; statements += 1) {
    const done = await transaction(fleet.core, (tx) => preempt(dyingAfter(tx, statements))).catch(
      () => undefined,
    );
    if (done !== undefined) {
      expect(done.stopped).toHaveLength(3);
      break;
    }
    crashes += 1;
    expect(await fleet.task(gang)).toMatchObject({ state: "RUNNING" });
    expect((await fleet.members(attempt)).map(({ state }) => state)).toEqual(
      Array.from({ length: 3 }, () => "RUNNING"),
    );
    expect(await reservedIn(fleet)).toEqual([]);
  }
  // Leader, tasks, attempts, GPUs; attempts stopped, task, reservation, event.
  expect(crashes).toBeGreaterThanOrEqual(8);
  expect(await fleet.task(gang)).toMatchObject({ state: "STOPPING" });
  expect(await reservedIn(fleet)).toHaveLength(1);
});

test("a checkpoint that one member tells of is the gang's", async () => {
  await using fleet = await Fleet.open(["sim", "sim"], ["sim"]);
  const { attempt } = await gangAndPreemptor(fleet);
  const member = parseMemberName(`${attempt}-2`)!;
  const saved = { ...member, epoch: 1, savedMs: startMs + 5 };
  expect(await storeSaved(fleet.core, fleet.nodes[0]!.id, [saved])).toBe(0);
  expect(await storeSaved(fleet.core, fleet.nodes[1]!.id, [saved])).toBe(3);
  const times = (await fleet.members(attempt)).map(({ savedMs }) => savedMs);
  expect(times).toEqual([startMs + 5, startMs + 5, startMs + 5]);
});

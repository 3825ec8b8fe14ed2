import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { transaction } from "@fastgpu/postgres/transaction";
import { create } from "@bufbuild/protobuf";
import { HelloSchema } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { memberName } from "@fastgpu/domain/member-name";
import { anId } from "@fastgpu/testkit/factories";
import { describe, expect, test } from "vitest";
import { commitLeases, type FundedPlacement } from "../src/cycle/commit.ts";
import { expireNode } from "../src/cycle/expire.ts";
import { openWorkerSession } from "../src/session/open-session.ts";
import { storeProgress } from "../src/store/tasks.ts";
import { storeFunded } from "../src/store/attempts.ts";
import { readFundedEnds, readWork } from "../src/store/work.ts";
import {
  dyingAfter,
  factsOf,
  Fleet,
  leaderEpoch,
  leaseUntilMs,
  startMs,
  tenant,
  type FleetNode,
  type Place,
} from "./fleet.ts";

const me = tenant();
const sims = (count: number) => Array.from({ length: count }, () => "sim");
const gang = { replicas: 3, retry: { maxRetries: 1, retryOn: [] } };

/** A gang of three over two nodes, leased. */
async function leasedGang(fleet: Fleet) {
  const task = await fleet.submit(me, { spec: gang });
  const funded = await fleet.placed(task, [
    [0, 0],
    [0, 1],
    [1, 0],
  ]);
  const { leased } = await fleet.commit(funded);
  expect(leased).toHaveLength(1);
  return { task, funded, ...factsOf(funded) };
}

/** The same, all members running after a second. */
async function runningGang(fleet: Fleet) {
  const lease = await leasedGang(fleet);
  await fleet.tell(...[0, 1, 2].map((member) => lease.running(member, 1_000)));
  return lease;
}

const statesOf = async (fleet: Fleet, { attempt }: FundedPlacement) =>
  (await fleet.members(attempt)).map(({ state }) => state);

describe("leases", () => {
  test("all members are leased together, and each node is told of its own with the ranks of all", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded } = await leasedGang(fleet);
    const [first, second] = fleet.nodes as [FleetNode, FleetNode];
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "SCHEDULED", epoch: 1, attemptCount: 1, attempt: funded.attempt },
    });
    const work = await readWork(fleet.core, [first.id, second.id]);
    const memberNodes = [first.id, first.id, second.id];
    expect(work).toMatchObject([
      { member: 0, node: first.id, gpus: [first.gpus[0]], epoch: 1, memberNodes },
      { member: 1, node: first.id, gpus: [first.gpus[1]], epoch: 1, memberNodes },
      { member: 2, node: second.id, gpus: [second.gpus[0]], epoch: 1, memberNodes },
    ]);
    expect(
      (await fleet.gpus()).map(({ state, attempt, member }) => [state, attempt, member]),
    ).toEqual(expect.arrayContaining([0, 1, 2].map((rank) => ["LEASED", funded.attempt, rank])));
  });

  test.each([
    [
      "a member's GPU is taken",
      [
        [0, 0],
        [0, 1],
        [1, 0],
      ],
      true,
    ],
    [
      "two members have the same GPU",
      [
        [0, 0],
        [0, 0],
        [1, 0],
      ],
      false,
    ],
    [
      "a member is missing",
      [
        [0, 0],
        [1, 0],
      ],
      false,
    ],
    ["a member has no GPU", [[0, 0], [0, 1], [1]], false],
    [
      "a member's GPU is not there",
      [
        [0, 0],
        [0, 1],
        [1, 7],
      ],
      false,
    ],
  ] as [string, Place[], boolean][])(
    "where %s, no member is leased",
    async (_why, places, takeOne) => {
      await using fleet = await Fleet.open(sims(2), sims(1));
      if (takeOne) {
        const single = await fleet.placed(await fleet.submit(me), [[1, 0]]);
        expect((await fleet.commit(single)).leased).toHaveLength(1);
      }
      const before = await fleet.gpus();
      const task = await fleet.submit(me, { spec: gang });
      const funded = await fleet.placed(task, places);
      const { leased, rejected } = await fleet.commit(funded);
      expect([leased.length, rejected.length]).toEqual([0, 1]);
      expect(await fleet.members(funded.attempt)).toEqual([]);
      expect(await fleet.task(task)).toMatchObject({ state: "QUEUED", epoch: 0 });
      expect(await fleet.gpus()).toEqual(before);
    },
  );

  test("a crash after any statement of the commit leaves no member leased (I6)", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const task = await fleet.submit(me, { spec: gang });
    const funded = await fleet.placed(task, [
      [0, 0],
      [0, 1],
      [1, 0],
    ]);
    const before = await fleet.gpus();
    let crashes = 0;
    for (let statements = 0; ; statements += 1) {
      const committed = await transaction(fleet.core, (tx) =>
        commitLeases(dyingAfter(tx, statements), [funded], fleet.commitAt),
      ).catch(() => undefined);
      if (committed !== undefined) {
        expect(committed.leased).toHaveLength(1);
        break;
      }
      crashes += 1;
      expect(await fleet.members(funded.attempt)).toEqual([]);
      expect(await fleet.gpus()).toEqual(before);
      expect(await fleet.task(task)).toMatchObject({ state: "QUEUED", epoch: 0 });
    }
    // Leader, tasks, nodes, GPUs, attempts, allocations, GPUs taken, task, event: none of them came through alone.
    expect(crashes).toBeGreaterThanOrEqual(8);
    expect(await statesOf(fleet, funded)).toEqual(["LEASED", "LEASED", "LEASED"]);
  });

  test("of commits that race for the same GPUs each gang gets all of its own or none", async () => {
    await using fleet = await Fleet.open(sims(4), sims(4));
    const places = [
      [
        [0, 0],
        [0, 1],
        [1, 0],
      ],
      [
        [1, 0],
        [1, 1],
        [0, 2],
      ],
      [
        [0, 2],
        [0, 3],
        [1, 2],
      ],
      [
        [1, 2],
        [1, 3],
        [0, 0],
      ],
    ] as Place[][];
    const wishes: FundedPlacement[] = [];
    for (let at = 0; at < 16; at += 1) {
      wishes.push(
        await fleet.placed(await fleet.submit(me, { spec: gang }), places[at % places.length]!),
      );
    }
    const outcomes = await Promise.all(wishes.map((wish) => fleet.commit(wish)));
    const leased = outcomes.flatMap((outcome) => outcome.leased);
    expect(leased.length).toBeGreaterThanOrEqual(1);
    expect(leased.length).toBeLessThanOrEqual(2);
    for (const wish of wishes) {
      const members = await fleet.members(wish.attempt);
      expect(members).toHaveLength(leased.includes(wish) ? 3 : 0);
    }
    const held = (await fleet.gpus()).filter(({ state }) => state === "LEASED");
    expect(held).toHaveLength(3 * leased.length);
  });
});

describe("the life of a gang", () => {
  test("it runs when all of its members do, and has succeeded when the last has", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded, starting, running, finalizing, ended } = await leasedGang(fleet);
    const state = async () => (await fleet.task(task)).state;
    await fleet.tell(starting(0, 500));
    expect(await state()).toBe("STARTING");
    await fleet.tell(running(0, 1_000), running(2, 1_500));
    expect(await state()).toBe("STARTING");
    await fleet.tell(finalizing(0, 2_000), ended(0, 2_500));
    expect(await state()).toBe("STARTING");
    await fleet.tell(running(1, 3_000));
    expect(await fleet.task(task)).toMatchObject({ state: "RUNNING", startedMs: startMs + 3_000 });
    await fleet.tell(finalizing(1, 4_000));
    expect(await state()).toBe("RUNNING");
    await fleet.tell(finalizing(2, 5_000));
    expect(await state()).toBe("FINALIZING");
    await fleet.tell(ended(2, 5_500));
    expect(await state()).toBe("FINALIZING");
    await fleet.tell(ended(1, 6_000));
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "SUCCEEDED", exitClass: "ok", exitCode: 0, manifestDigest: "digest-0" },
    });
    expect((await fleet.members(funded.attempt)).map((each) => each.manifestDigest)).toEqual([
      "digest-0",
      "digest-1",
      "digest-2",
    ]);
  });

  test("the first that fails stops the others, and its end is the gang's whatever comes after it", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded, ended } = await runningGang(fleet);
    const applied = await fleet.tell(ended(1, 2_000, "user_exit", "boom"));
    expect(new Set(applied.nodes)).toEqual(new Set(fleet.nodes.map(({ id }) => id)));
    expect(await statesOf(fleet, funded)).toEqual(["STOPPING", "ENDED", "STOPPING"]);
    expect(await fleet.task(task)).toMatchObject({
      ...{
        state: "STOPPING",
        statusMessage: expect.stringContaining("rank 1 ended with user_exit"),
      },
    });
    const stops = await readWork(
      fleet.core,
      fleet.nodes.map(({ id }) => id),
    );
    expect(stops.map(({ member, stop }) => [member, stop?.reason])).toEqual([
      [0, "gang_stopped"],
      [2, "gang_stopped"],
    ]);
    // Rank 0 crashed for the same reason before it heard of the stop: it is not the cause.
    await fleet.tell(ended(0, 2_100, "oom_host"));
    expect(await fleet.task(task)).toMatchObject({ state: "STOPPING", epoch: 1 });
    await fleet.tell(ended(2, 3_000, "gang_stopped"));
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "FAILED", exitClass: "user_exit", exitCode: 2, statusMessage: "rank 1: boom" },
    });
    expect((await fleet.members(funded.attempt)).map(({ cause }) => cause)).toEqual([
      false,
      true,
      false,
    ]);
  });

  test("it is in line again only when every member has ended, and the next attempt is whole", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const task = await fleet.submit(me, {
      spec: { ...gang, retry: { maxRetries: 1, retryOn: [2] } },
    });
    const first = await fleet.placed(task, [
      [0, 0],
      [0, 1],
      [1, 0],
    ]);
    await fleet.commit(first);
    const { running, ended } = factsOf(first);
    await fleet.tell(running(0, 1_000), running(1, 1_000), running(2, 1_000));
    await fleet.tell(ended(2, 2_000, "user_exit"), ended(0, 2_500, "gang_stopped"));
    expect((await fleet.task(task)).state).toBe("STOPPING");
    const early = { ...first.placement, task: { ...first.placement.task, epoch: 1 } };
    const tooEarly = await fleet.commit({ ...first, attempt: anId("att"), placement: early });
    expect(tooEarly.leased).toEqual([]);
    await fleet.tell(ended(1, 3_000, "gang_stopped"));
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "QUEUED", counts: { retries: 1, freeRequeues: 0 } },
    });
    const second = await fleet.placed(task, [
      [0, 0],
      [0, 1],
      [1, 0],
    ]);
    expect((await fleet.commit(second)).leased).toHaveLength(1);
    // What a member of the attempt before still says is fenced, as is a word of another node.
    await fleet.tell(factsOf(first).running(1, 4_000), ended(1, 4_000, "user_exit"));
    const now = factsOf(second, 2);
    const strange = now.fact(2, 4_000, { kind: "starting" }, { node: fleet.nodes[0]!.id });
    await fleet.tell(strange, factsOf(second, 1).running(0, 4_000));
    expect(await statesOf(fleet, second)).toEqual(["LEASED", "LEASED", "LEASED"]);
  });

  test("a lost node stops the members elsewhere, and the whole is in line again at no cost", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded, ended } = await runningGang(fleet);
    const lostAtMs = leaseUntilMs + 2_000;
    const applied = await transaction(fleet.core, (tx) =>
      expireNode(tx, fleet.nodes[0]!.id, { leaderEpoch, nowMs: lostAtMs, skewMs: 2_000 }),
    );
    expect(applied?.nodes).toContain(fleet.nodes[1]!.id);
    expect(await statesOf(fleet, funded)).toEqual(["ENDED", "ENDED", "STOPPING"]);
    expect((await fleet.task(task)).state).toBe("STOPPING");
    await fleet.tell(ended(2, lostAtMs + 1_000 - startMs, "gang_stopped"));
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "QUEUED", exitClass: "node_lost", counts: { retries: 0, freeRequeues: 1 } },
    });
    const states = (await fleet.gpus()).map(({ node, state }) => [node, state]);
    expect(states).toEqual(
      expect.arrayContaining([
        [fleet.nodes[0]!.id, "UNKNOWN"],
        [fleet.nodes[1]!.id, "IDLE"],
      ]),
    );
  });

  test("a worker that comes back with one of its two members goes on with that one only to stop it", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded } = await runningGang(fleet);
    const [node] = fleet.nodes as [FleetNode];
    const name = memberName({ attempt: funded.attempt, member: 1 });
    const hello = create(HelloSchema, {
      displayName: "again",
      gpus: (await fleet.gpus())
        .filter((gpu) => gpu.node === node.id)
        .map(({ index, uuid }) => ({ index, uuid, model: "sim", simulated: true })),
      liveAttempts: [{ attempt: name, epoch: 1n }],
    });
    const at = { node: node.id, replica: "", nowMs: startMs + 5_000, leaseTtlMs: 15_000 };
    const opened = await openWorkerSession(fleet.core, hello, at);
    expect(opened.adopted).toEqual([name]);
    expect(new Set(opened.applied.nodes)).toEqual(new Set(fleet.nodes.map(({ id }) => id)));
    expect(await statesOf(fleet, funded)).toEqual(["ENDED", "STOPPING", "STOPPING"]);
    expect((await fleet.task(task)).state).toBe("STOPPING");
    const [first] = await fleet.members(funded.attempt);
    expect(first).toMatchObject({ exitClass: "node_lost", cause: true });
  });

  test("its progress is what its member 0 tells", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { task, funded } = await runningGang(fleet);
    const { attempt } = funded;
    const [first, second] = fleet.nodes as [FleetNode, FleetNode];
    const progress = Buffer.from("x");
    expect(await storeProgress(fleet.core, second.id, [{ attempt, epoch: 1, progress }])).toEqual(
      [],
    );
    expect(await storeProgress(fleet.core, first.id, [{ attempt, epoch: 1, progress }])).toEqual([
      task,
    ]);
  });

  test("a GPU that failed is left out of the next attempt, the others' are not", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const task = await fleet.submit(me, { spec: { replicas: 3, retry: { maxRetries: 1 } } });
    const funded = await fleet.placed(task, [
      [0, 0],
      [0, 1],
      [1, 0],
    ]);
    await fleet.commit(funded);
    const { running, finalizing, ended } = factsOf(funded);
    await fleet.tell(running(0, 1_000), running(1, 1_000), running(2, 1_000));
    // Its GPU was given back before its end was told.
    await fleet.tell(finalizing(1, 2_000));
    await fleet.tell(ended(1, 2_100, "gpu_fault"));
    await fleet.tell(ended(0, 2_200, "gang_stopped"));
    await fleet.tell(ended(2, 2_300, "gang_stopped"));
    expect(await fleet.task(task)).toMatchObject({
      ...{ state: "QUEUED", excludedGpus: [fleet.nodes[0]!.gpus[1]] },
    });
  });
});

describe("the money of a gang", () => {
  test("each member's GPU time is cut from its own beginning, and the hold is closed with the last", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { funded, running, ended } = await leasedGang(fleet);
    await fleet.tell(running(0, 1_000), running(1, 2_000), running(2, 3_000));
    await fleet.tell(ended(0, 10_000), ended(1, 10_000));
    await fleet.tell(ended(2, 11_000));
    const usage = await fleet.usage(funded.attempt);
    expect(usage.map(({ final }) => final)).toEqual([false, false, true]);
    const billed = usage.map(({ segments }) =>
      segments.map(({ member, kind, startMs: from, endMs }) => [
        ...[member, kind, Number(from) - startMs, Number(endMs) - startMs],
      ]),
    );
    const [starting, billable] = [UsageKind.STARTING, UsageKind.BILLABLE];
    expect(billed).toEqual([
      [
        [0, starting, 0, 1_000],
        [0, billable, 1_000, 10_000],
      ],
      [
        [1, starting, 0, 2_000],
        [1, billable, 2_000, 10_000],
      ],
      [
        [2, starting, 0, 3_000],
        [2, billable, 3_000, 11_000],
      ],
    ]);
  });

  test("one hold funds every member for as long, each from when it runs", async () => {
    await using fleet = await Fleet.open(sims(2), sims(1));
    const { funded, running } = await leasedGang(fleet);
    await fleet.tell(running(0, 1_000), running(1, 2_000));
    await storeFunded(fleet.core, [{ id: funded.attempt, fundedMs: 900_000, n: 1 }]);
    const ends = await readFundedEnds(
      fleet.core,
      fleet.nodes.map(({ id }) => id),
    );
    expect(new Map(ends.map(({ member, untilMs }) => [member, untilMs - startMs]))).toEqual(
      new Map([
        [0, 901_000],
        [1, 902_000],
        [2, 900_000],
      ]),
    );
  });
});

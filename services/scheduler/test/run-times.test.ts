import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createPlanner } from "@fastgpu/scheduling/planner";
import { runKinds } from "@fastgpu/scheduling/order/run-times";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TermFigures } from "../src/cycle/figures.ts";
import type { Mirror } from "../src/cycle/mirror.ts";
import { createSnapshots } from "../src/explain/snapshot.ts";
import { Fleet, tenant, type Tenant } from "./fleet.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

let fleet: Fleet;
let leader: Mirror;
beforeEach(async () => {
  fleet = await Fleet.open(["H100", "H100"]);
  leader = await fleet.mirror();
});
afterEach(async () => {
  await fleet[Symbol.asyncDispose]();
});

const wish = (gpus = 1) => ({ gpus, spec: { maxRuntime: durationFromMs(day) } });

/** The leader sees the node as it is now. */
const look = () => leader.refresh(fleet.core, { tasks: [], nodes: [fleet.node] });

/** Runs a task on the first GPU for so long. */
async function runFor(of: Tenant, runMs: number, exitClass: "ok" | "preempted" = "ok") {
  const attempt = await fleet.run(await fleet.submit(of, wish()), [0]);
  await look();
  fleet.nowMs += runMs;
  await fleet.end(attempt, exitClass);
  await look();
}

/** What the closest kind says of a task of one GPU. */
const expectedOf = ({ project, user }: Tenant, mirror: Mirror) => {
  const [task] = mirror.planState().nodes.flatMap(({ running }) => running);
  const { cpuMillis = 1_000, memoryMib = 1_024 } = task ?? {};
  const kinds = runKinds({ project, user, gpus: 1, cpuMillis, memoryMib });
  const { runTimes = [] } = mirror.planState();
  return kinds.flatMap((kind) => runTimes.find(({ id }) => id === kind) ?? []).at(0);
};

describe("run times", () => {
  test("are learned by the leader as attempts end, and are the same in one that starts later", async () => {
    const mine = tenant();
    for (let count = 0; count < 6; count++) await runFor(mine, 10 * minute);
    // Nothing is learned of what was stopped.
    await runFor(mine, 5 * 60 * minute, "preempted");
    await runFor(tenant(), 60 * minute);
    await leader.runTimes.learn(fleet.core);
    const error = leader.runTimes.error();
    expect(error).toMatchObject({ predicted: 1, unpredicted: 6, p90Coverage: 1 });
    const figures = new TermFigures(0).read(leader);
    expect(figures).toMatchObject({ runsExpected: 1, runsUnexpected: 6, runTimeP90Part: 1 });
    expect(figures.runTimeMedianFactorOff).toBeLessThan(1.2);
    const later = await fleet.mirror();
    for (const mirror of [leader, later]) {
      const { p50Ms, p90Ms } = expectedOf(mine, mirror)!;
      expect(p50Ms / (10 * minute)).toBeCloseTo(1, 0);
      expect(p90Ms).toBeLessThan(20 * minute);
    }
    expect(leader.planState().runTimes).toEqual(later.planState().runTimes);
    // What has been learned once is not learned again.
    await leader.runTimes.learn(fleet.core);
    expect(leader.runTimes.error()).toEqual(error);
  });

  test("rank what has run and not ended, the same in a leader that starts later", async () => {
    const mine = tenant();
    for (let count = 0; count < 6; count++) await runFor(mine, 60 * minute);
    const about = await fleet.run(await fleet.submit(mine, { spec: { preemptible: true } }), [0]);
    fleet.nowMs += 55 * minute;
    const early = await fleet.run(await fleet.submit(mine, { spec: { preemptible: true } }), [1]);
    fleet.nowMs += minute;
    await look();
    await leader.runTimes.learn(fleet.core);
    const later = await fleet.mirror();
    expect(leader.planState().ranks).toEqual([]);
    for (const mirror of [leader, later]) {
      const { order: options } = defaultSchedulingPolicy;
      mirror.runTimes.renewRanks(mirror.planState(), { nowMs: fleet.nowMs, options });
      const { nodes, ranks = [] } = mirror.planState();
      const rankOf = (attempt: string): number => {
        const lease = nodes[0]!.running.find((each) => each.attempt === attempt);
        return ranks.find(({ id }) => id === lease?.task)!.rankMs;
      };
      // Its like have ended at its age; the other is just at its beginning.
      expect(rankOf(about)).toBeLessThan(rankOf(early) / 2);
    }
    expect(leader.planState().ranks).toEqual(later.planState().ranks);
  });

  test("are told by name, and no explanation reads a name that tells nothing", async () => {
    const [mine, other] = [tenant(), tenant()];
    const named = (of: Tenant, name: string) => fleet.submit(of, { ...wish(), name });
    for (const [name, minutes] of [...Array(6).fill(["long", 60]), ["once", 10]] as const) {
      const attempt = await fleet.run(await named(mine, String(name)), [0]);
      fleet.nowMs += Number(minutes) * minute;
      await fleet.end(attempt, "ok");
    }
    const waiting = await named(mine, "long");
    const runs = await named(mine, "long");
    await fleet.run(runs, [0]);
    for (const name of ["once", "never", ""]) await named(mine, name);
    await named(other, "long");
    const { history } = await createSnapshots(fleet.core, fleet.clock).read();
    expect(history.names).toEqual(new Map([waiting, runs].map((id) => [id, "long"])));
    const predicted = history.predict({ project: mine.project, gpus: 1, name: "long" });
    expect(predicted?.level).toBe(0);
  });

  test("of one project say nothing about another's", async () => {
    const mine = tenant();
    for (let count = 0; count < 6; count++) await runFor(mine, 10 * minute);
    await leader.runTimes.learn(fleet.core);
    expect(expectedOf(tenant({ org: mine.org, user: mine.user }), leader)).toBeUndefined();
  });

  test("let a task pass whose max_runtime alone would not: nobody waits for it", async () => {
    const [mine, other, wide] = [tenant(), tenant(), tenant()];
    for (let count = 0; count < 6; count++) await runFor(other, 120 * minute);
    for (let count = 0; count < 6; count++) await runFor(mine, 10 * minute);
    await leader.runTimes.learn(fleet.core);
    await fleet.run(await fleet.submit(other, wish()), [0]);
    const head = await fleet.submit(wide, wish(2));
    fleet.nowMs += 1;
    const short = await fleet.submit(mine, wish());
    const unknown = await fleet.submit(tenant(), wish());
    await leader.refresh(fleet.core, { tasks: [head, short, unknown], nodes: [fleet.node] });
    const planner = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
    const plan = planner.plan(leader.planState(), fleet.nowMs);
    expect(plan.placements.map(({ task }) => task.id)).toEqual([short]);
    expect([...plan.expected.keys()]).toEqual([head]);
  });
});

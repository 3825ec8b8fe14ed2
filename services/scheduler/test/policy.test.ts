import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { statement } from "@fastgpu/postgres/pool";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { manualClock } from "@fastgpu/testkit/clock";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { transaction } from "@fastgpu/postgres/transaction";
import { followPolicy, readPolicyInForce, type PolicyFollower } from "../src/policy/follow.ts";
import { setPolicy } from "../src/policy/set-policy.ts";
import { lockPolicy, readPolicyFile, readStoredPolicy } from "../src/store/policies.ts";
import { openCore } from "./core.ts";

const takeLead = statement(
  "test_lead",
  `insert into leader (name, epoch, holder, elected_ms) values ('cycle', $1, 'test', 0)
   on conflict (name) do update set epoch = excluded.epoch`,
);

/** A leader of a term over a database and a policy file of its own. */
async function scene() {
  const stack = new AsyncDisposableStack();
  const { core } = stack.use(await openCore());
  const directory = await mkdtemp(join(tmpdir(), "policy-"));
  stack.defer(() => rm(directory, { recursive: true }));
  const clock = manualClock();
  let written = 0;
  let epoch = 0;
  return {
    core,
    written: () => written,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
    /** Writes the file as an editor or a mounted configuration does. */
    async write(text: string, name = "policy.yaml"): Promise<void> {
      await writeFile(join(directory, "next"), text);
      await rename(join(directory, "next"), join(directory, name));
    },
    remove: () => rm(join(directory, "policy.yaml")),
    /** Another leader, with the file of its own machine. */
    async lead(name = "policy.yaml"): Promise<PolicyFollower> {
      epoch += 1;
      await core.query(takeLead, [epoch]);
      return await followPolicy({
        ...{ core, clock, log: quiet, leaderEpoch: BigInt(epoch), file: join(directory, name) },
        written: () => (written += 1),
      });
    },
    call: (source: string, expectedRevision = 0) =>
      transaction(core, async (tx) => {
        await lockPolicy(tx);
        return await setPolicy(tx, {
          ...{ source, origin: "call", updatedBy: "key-1", createdMs: 1, expectedRevision },
          audit: { principal: "key-1", method: "m", requestId: "r" },
          traceparent: "",
        });
      }),
  };
}

const shipped = defaultSchedulingPolicy.placement;

/** Looks twice, as two seconds do: the first look may see a file that is still written. */
async function looks(follower: PolicyFollower): Promise<string> {
  await follower.look();
  await follower.look();
  return follower.current.policy.placement;
}

test("without a file the shipped policy is in force; a file is taken when it comes, changes and not when it goes", async () => {
  await using s = await scene();
  const leader = await s.lead();
  expect(leader.current).toEqual({ revision: 0, policy: defaultSchedulingPolicy });
  await s.write("placement: fgd\n");
  expect(await leader.look()).toBeUndefined();
  expect((await leader.look())?.placement).toBe("fgd");
  expect(await leader.look()).toBeUndefined();
  await s.write("placement: bestfit\n");
  expect(await looks(leader)).toBe("bestfit");
  await s.remove();
  expect(await looks(leader)).toBe("bestfit");
  expect(await readStoredPolicy(s.core)).toMatchObject({ revision: 2, origin: "file" });
  expect(s.written()).toBe(2);
});

test("a bad file keeps the policy before it, is told, and its mending is taken", async () => {
  await using s = await scene();
  await s.write("placement: fgd\n");
  const leader = await s.lead();
  expect(leader.current).toMatchObject({ revision: 1, policy: { placement: "fgd" } });
  await s.write("placement: bestfit\norder:\n  gapMd: -1\n");
  expect(await looks(leader)).toBe("fgd");
  expect((await readPolicyFile(s.core)).problem).toContain("policy.yaml:3: order.gapMd: -1 is not");
  // Nothing but the problem was written, and it is written once.
  expect(await readStoredPolicy(s.core)).toMatchObject({ revision: 1 });
  expect(s.written()).toBe(2);
  await looks(leader);
  expect(s.written()).toBe(2);
  await s.write("placement: bestfit\n");
  expect(await looks(leader)).toBe("bestfit");
  expect((await readPolicyFile(s.core)).problem).toBe("");
});

test("what a call sets stays until the file changes, across leaders", async () => {
  await using s = await scene();
  await s.write("placement: fgd\n");
  const first = await s.lead();
  await s.call("placement: packing\n");
  expect(await looks(first)).toBe("packing");
  // Another leader finds the same file, which was taken in long ago.
  const second = await s.lead();
  expect(await looks(second)).toBe("packing");
  await s.write("placement: spreading\n");
  expect(await looks(second)).toBe("spreading");
});

test("a leader whose term is over takes no file in", async () => {
  await using s = await scene();
  const old = await s.lead();
  const present = await s.lead("none.yaml");
  await s.write("placement: fgd\n");
  await old.look();
  await expect(old.look()).rejects.toThrow();
  expect(await looks(present)).toBe(shipped);
  expect(await readPolicyInForce(s.core)).toMatchObject({ revision: 0 });
});

test("a call that expects another revision changes nothing; of racing calls one wins", async () => {
  await using s = await scene();
  await s.call("placement: fgd\n");
  await expect(s.call("placement: packing\n", 7)).rejects.toMatchObject({ reason: "STALE_ETAG" });
  const outcomes = await Promise.allSettled(
    ["bestfit", "packing", "spreading"].map((name) => s.call(`placement: ${name}\n`, 1)),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(await readStoredPolicy(s.core)).toMatchObject({ revision: 2 });
});

test("a policy that this version does not know leaves the shipped one in force", async () => {
  await using s = await scene();
  await s.call("placement: of_the_future\n");
  const leader = await s.lead();
  expect(leader.current).toEqual({ revision: 1, policy: defaultSchedulingPolicy });
});

import { Fault } from "@fastgpu/domain/fault";
import { manualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import type { TestDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { aborted } from "@fastgpu/lifecycle/signals";
import pg from "pg";
import { expect, test } from "vitest";
import { assertLeader, leaderGuard, startLeadership } from "./leader.ts";
import type { Term } from "./leader.ts";
import { openPool, statement } from "./pool.ts";
import { transaction } from "./transaction.ts";

const never = new AbortController().signal;
const urlOf = (db: TestDatabase): string => db.urls["demo"]!.core;

function candidate(db: TestDatabase, holder: string, lead: (term: Term) => Promise<void>) {
  return startLeadership({
    name: "cycle",
    service: "demo",
    coreUrl: urlOf(db),
    holder,
    clock: manualClock(),
    log: quiet,
    stop: never,
    probeMs: 20,
    lead,
  });
}

async function asAdmin(db: TestDatabase, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: db.adminUrl });
  await client.connect();
  await client.query(sql);
  await client.end();
}

const cutLeader = `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

test("one leads at a time, the next takes over when it stops, each with a higher epoch", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  const set = namedSignals();
  let leading = 0;
  const lead = (name: string) => async (term: Term) => {
    leading += 1;
    expect(leading).toBe(1);
    set.fire(`${name} at ${term.epoch}`);
    await aborted(term.over);
    leading -= 1;
  };
  {
    await using _a = candidate(db, "a", lead("a"));
    await set.fired("a at 1");
    await using _b = candidate(db, "b", lead("b"));
    await _a[Symbol.asyncDispose]();
    await set.fired("b at 2");
  }
  await using _c = candidate(db, "c", lead("c"));
  await set.fired("c at 3");
});

test("I14: a leader whose connection was cut cannot write any more, though it does not know", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = openPool({ url: urlOf(db), name: "test", log: quiet });
  const set = namedSignals();
  const terms: Term[] = [];
  await using _candidate = candidate(db, "a", async (term) => {
    terms.push(term);
    set.fire("elected");
    await aborted(term.over);
    set.fire("over");
  });
  await set.fired("elected");
  const write = (epoch: bigint) =>
    transaction(pool, async (tx) => {
      await assertLeader(tx, "cycle", epoch);
      return "written";
    });
  expect(await write(terms[0]!.epoch)).toBe("written");
  await asAdmin(db, cutLeader);
  await set.fired("over");
  await set.fired("elected", 2);
  const refused: unknown = await write(terms[0]!.epoch).catch((error: unknown) => error);
  expect(refused instanceof Fault && refused.reason).toBe("FENCED");
  expect(await write(terms[1]!.epoch)).toBe("written");
});

const makeMarks = statement("make_marks", "CREATE TABLE marks (epoch bigint)");
const mark = statement<{ epoch: bigint }>(
  "mark",
  `WITH leader_ok AS (${leaderGuard("cycle", 1)})
   INSERT INTO marks SELECT $1 WHERE EXISTS (SELECT FROM leader_ok) RETURNING epoch`,
);
const waiting = statement(
  "waiting",
  `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
);
const nextTerm = statement("next_term", "UPDATE leader SET epoch = epoch + 1 WHERE name = 'cycle'");
const firstTerm = statement("first_term", "INSERT INTO leader VALUES ('cycle', 1, 'a', 0)");

test("I14: a one-statement write that meets a change of leader comes before it or fails", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using owner = openPool({ url: db.urls["demo"]!.owner, name: "owner", log: quiet });
  await owner.query(makeMarks);
  await owner.query(firstTerm);
  await using pool = openPool({ url: urlOf(db), name: "test", log: quiet });
  expect(await pool.query(mark, [1n])).toEqual([{ epoch: 1n }]);
  const changed = Promise.withResolvers<void>();
  const mayCommit = Promise.withResolvers<void>();
  const change = transaction(pool, async (tx) => {
    await tx.query(nextTerm);
    changed.resolve();
    await mayCommit.promise;
  });
  await changed.promise;
  // Starts while the change is not committed, so its snapshot still shows the old epoch.
  const stale = pool.query(mark, [1n]);
  await eventually(
    "the write waits for the change",
    async () => (await pool.query(waiting)).length > 0,
  );
  mayCommit.resolve();
  await change;
  expect(await stale).toEqual([]);
  expect(await pool.query(mark, [2n])).toEqual([{ epoch: 2n }]);
});

test("a leader that gives up leads again under a new epoch", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  const set = namedSignals();
  await using _candidate = candidate(db, "a", async (term) => {
    set.fire(`term ${term.epoch}`);
    if (term.epoch === 1n) throw new Error("tripped");
    await aborted(term.over);
  });
  await set.fired("term 2");
});

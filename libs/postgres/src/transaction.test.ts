import { Fault } from "@fastgpu/domain/fault";
import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import pg from "pg";
import { expect, test } from "vitest";
import { raiseIncarnation, readEventHead } from "./outbox.ts";
import { openPool, statement } from "./pool.ts";
import { atDatabase, provision } from "./provision.ts";
import { transaction } from "./transaction.ts";

const makeCounters = statement(
  "make_counters",
  "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL)",
);
const fillCounters = statement("fill_counters", "INSERT INTO counters VALUES (1, 0), (2, 0)");
const read = statement<{ n: bigint }>("read_counter", "SELECT n FROM counters WHERE id = $1");
const write = statement("write_counter", "UPDATE counters SET n = $2 WHERE id = $1");
const add = statement("add_counter", "UPDATE counters SET n = n + 1 WHERE id = $1");

async function withCounters() {
  const db = await testDatabase({ services: ["demo"] });
  const pool = openPool({ url: db.urls["demo"]!.owner, name: "test", log: quiet, max: 8 });
  await pool.query(makeCounters);
  await pool.query(fillCounters);
  return { db, pool };
}

async function faultOf(promise: Promise<unknown>): Promise<Fault> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error;
  throw new Error(`not a fault: ${String(error)}`);
}

test("lost updates under SERIALIZABLE are tried again until they fit", async () => {
  const { db, pool } = await withCounters();
  await using _db = db;
  await using _pool = pool;
  let attempts = 0;
  const allHaveRead = Promise.withResolvers<void>();
  const bump = () =>
    transaction(
      pool,
      async (tx) => {
        attempts += 1;
        const [row] = await tx.query(read, [1]);
        if (attempts === 3) allHaveRead.resolve();
        await allHaveRead.promise;
        await tx.query(write, [1, (row?.n ?? 0n) + 1n]);
      },
      { isolation: "SERIALIZABLE" },
    );
  await Promise.all([bump(), bump(), bump()]);
  expect(await pool.query(read, [1])).toEqual([{ n: 3n }]);
  expect(attempts).toBeGreaterThan(3);
});

test("a deadlock's victim goes again; both changes are there", async () => {
  const { db, pool } = await withCounters();
  await using _db = db;
  await using _pool = pool;
  const [one, two] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const lockBoth = (
    first: number,
    second: number,
    mine: PromiseWithResolvers<void>,
    other: Promise<void>,
  ) =>
    transaction(pool, async (tx) => {
      await tx.query(add, [first]);
      mine.resolve();
      await other;
      await tx.query(add, [second]);
    });
  await Promise.all([lockBoth(1, 2, one, two.promise), lockBoth(2, 1, two, one.promise)]);
  expect(await pool.query(read, [1])).toEqual([{ n: 2n }]);
  expect(await pool.query(read, [2])).toEqual([{ n: 2n }]);
});

test("a connection cut before the commit leaves nothing, and the pool goes on", async () => {
  const { db, pool } = await withCounters();
  await using _db = db;
  await using _pool = pool;
  const pid = statement<{ pid: number }>("pid", "SELECT pg_backend_pid() AS pid");
  const kill = statement("kill", "SELECT pg_terminate_backend($1)");
  await using admin = openPool({ url: db.adminUrl, name: "admin", log: quiet });
  const fault = await faultOf(
    transaction(pool, async (tx) => {
      await tx.query(add, [1]);
      const [row] = await tx.query(pid);
      await admin.query(kill, [row?.pid]);
      await tx.query(add, [1]);
    }),
  );
  expect(fault.reason).toBe("UNAVAILABLE");
  expect(fault.retryAfterMs).toBeGreaterThan(0);
  expect(await pool.query(read, [1])).toEqual([{ n: 0n }]);
});

test("a statement that takes too long is DEADLINE_EXCEEDED; int8 stays exact; arrays of int8 too", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  const url = db.urls["demo"]!.core;
  await using pool = openPool({ url, name: "test", log: quiet, statementTimeoutMs: 50 });
  const slow = statement("slow", "SELECT pg_sleep(30)");
  expect((await faultOf(transaction(pool, (tx) => tx.query(slow)))).reason).toBe(
    "DEADLINE_EXCEEDED",
  );
  const big = statement(
    "big",
    "SELECT 9007199254740993::bigint AS n, ARRAY[1, NULL, -9007199254740993]::bigint[] AS list",
  );
  expect(await pool.query(big)).toEqual([
    { n: 9007199254740993n, list: [1n, null, -9007199254740993n] },
  ]);
});

test("an error of the work itself comes out as it was, and the transaction is undone", async () => {
  const { db, pool } = await withCounters();
  await using _db = db;
  await using _pool = pool;
  const refusal = new Fault("QUOTA_EXCEEDED", "too many");
  const work = transaction(pool, async (tx) => {
    await tx.query(add, [1]);
    throw refusal;
  });
  expect(await faultOf(work)).toBe(refusal);
  expect(await pool.query(read, [1])).toEqual([{ n: 0n }]);
});

test("provisioning again changes passwords and adds services, and racing starts agree", async () => {
  await using db = await testDatabase({ services: [] });
  const database = new URL(db.adminUrl).pathname.slice(1);
  const server = atDatabase(db.adminUrl, "postgres");
  const make = (services: string[], salt: string) =>
    provision({
      adminUrl: server,
      database,
      services, // The auditor belongs to the whole run: it keeps its password.
      password: (role) => (role === "auditor" ? "test" : `${role}${salt} /%ü`),
    });
  const login = async (url: string): Promise<string> => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const { rows } = await client.query<{ path: string }>("SELECT current_schema() AS path");
    await client.end();
    return rows[0]?.path ?? "";
  };
  // Roles belong to the whole server: names that no other test uses.
  const [first] = await Promise.all([
    make(["alpha1"], "a"),
    make(["alpha1"], "a"),
    make(["alpha1"], "a"),
  ]);
  expect(await login(first.urls["alpha1"]!.api)).toBe("alpha1");
  const second = await make(["alpha1", "beta1"], "b");
  expect(await login(second.urls["beta1"]!.core)).toBe("beta1");
  expect(await login(second.urls["alpha1"]!.owner)).toBe("alpha1");
  await expect(login(first.urls["alpha1"]!.api)).rejects.toThrow(/authentication failed/);
  await expect(make(["Robert'); --"], "c")).rejects.toThrow(RangeError);
});

test("a restore raises the incarnation, never below its floor", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = openPool({ url: db.urls["demo"]!.core, name: "test", log: quiet });
  expect(await raiseIncarnation(pool, 0)).toBe(2);
  expect(await raiseIncarnation(pool, 9)).toBe(9);
  expect((await readEventHead(pool)).incarnation).toBe(9);
});

import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { readByCursor } from "./cursor.ts";
import { openPool, statement } from "./pool.ts";
import { transaction } from "./transaction.ts";

const makeItems = statement("make_items", "CREATE TABLE items (n int PRIMARY KEY)");
const makeCount = statement("make_count", "CREATE SEQUENCE computed");
const fill = statement("fill_items", "INSERT INTO items SELECT generate_series(1, 25)");
const removeAll = statement("remove_items", "DELETE FROM items");
const lastComputed = statement<{ n: bigint }>(
  "last_computed",
  "SELECT last_value AS n FROM computed",
);
const selectItems = statement<{ n: number }>(
  "items_down",
  "SELECT n, nextval('computed') FROM items ORDER BY n DESC",
);

async function withItems() {
  const db = await testDatabase({ services: ["demo"] });
  const pool = openPool({ url: db.urls["demo"]!.owner, name: "test", log: quiet, max: 2 });
  await pool.query(makeItems);
  await pool.query(makeCount);
  await pool.query(fill);
  return { db, pool };
}

test("pages come in order, each row is computed once, and what is deleted meanwhile is still read", async () => {
  const { db, pool } = await withItems();
  await using _db = db;
  await using _pool = pool;
  const pages = await transaction(pool, async (tx) => {
    const read: number[][] = [];
    for await (const page of readByCursor(tx, selectItems, 10)) {
      if (read.length === 0) await pool.query(removeAll);
      read.push(page.map(({ n }) => n));
    }
    return read;
  });
  const down = Array.from({ length: 25 }, (_, at) => 25 - at);
  expect(pages).toEqual([down.slice(0, 10), down.slice(10, 20), down.slice(20)]);
  const [last] = await pool.query(lastComputed);
  expect(last?.n).toBe(25n);
});

test("whoever stops looking, or fails at a page, leaves a connection that can be used", async () => {
  const { db, pool } = await withItems();
  await using _db = db;
  await using _pool = pool;
  const first = await transaction(pool, async (tx) => {
    for await (const page of readByCursor(tx, selectItems, 4)) return page.length;
    return 0;
  });
  expect(first).toBe(4);
  const failing = transaction(pool, async (tx) => {
    for await (const page of readByCursor(tx, selectItems, 4)) throw new Error(`${page.length}`);
  });
  await expect(failing).rejects.toThrow("internal error");
  // The same cursor twice in one transaction, one after the other.
  const rows = await transaction(pool, async (tx) => {
    let count = 0;
    for (const size of [7, 100]) {
      for await (const page of readByCursor(tx, selectItems, size)) count += page.length;
    }
    return count;
  });
  expect(rows).toBe(50);
});

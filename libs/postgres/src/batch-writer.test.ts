import { Fault } from "@fastgpu/domain/fault";
import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { createBatchWriter } from "./batch-writer.ts";
import { openPool, statement } from "./pool.ts";

test("commands of one turn go together, and each gets its own outcome", async () => {
  const batches: number[][] = [];
  await using writer = createBatchWriter<number, string>({
    maxItems: 4,
    write: async (items) => {
      batches.push([...items]);
      return items.map((item) => `wrote ${item}`);
    },
  });
  const outcomes = await Promise.all(Array.from({ length: 10 }, (_, i) => writer.submit(i)));
  expect(outcomes).toEqual(Array.from({ length: 10 }, (_, i) => `wrote ${i}`));
  expect(batches.map((batch) => batch.length)).toEqual([4, 4, 2]);
});

test("one bad item fails alone, its neighbours are written", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using owner = openPool({ url: db.urls["demo"]!.owner, name: "test", log: quiet });
  await owner.query(
    statement("make_numbers", "CREATE TABLE numbers (n int PRIMARY KEY CHECK (n <> 13))"),
  );
  const insert = statement<{ n: number }>(
    "insert_numbers",
    "INSERT INTO numbers SELECT * FROM unnest($1::int[]) ON CONFLICT DO NOTHING RETURNING n",
  );
  await using writer = createBatchWriter<number, "written" | "known">({
    write: async (items) => {
      const rows = new Set((await owner.query(insert, [items])).map((row) => row.n));
      return items.map((item) => (rows.has(item) ? "written" : "known"));
    },
  });
  await writer.submit(5);
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => writer.submit(i)));
  const shown = outcomes.map((outcome) =>
    outcome.status === "fulfilled" ? outcome.value : "failed",
  );
  expect(shown).toEqual(
    Array.from({ length: 20 }, (_, i) => (i === 5 ? "known" : i === 13 ? "failed" : "written")),
  );
});

test("a full writer refuses instead of growing, and a closing one ends what it took", async () => {
  const gate = Promise.withResolvers<void>();
  const writer = createBatchWriter<number, number>({
    maxItems: 1,
    concurrency: 1,
    maxWaiting: 2,
    write: async (items) => {
      await gate.promise;
      return items;
    },
  });
  const first = writer.submit(1);
  await new Promise(setImmediate);
  const taken = [first, writer.submit(2), writer.submit(3)];
  const refused: unknown = await writer.submit(4).catch((error: unknown) => error);
  expect(refused instanceof Fault && refused.reason).toBe("RATE_LIMITED");
  const closed = writer[Symbol.asyncDispose]();
  const late: unknown = await writer.submit(5).catch((error: unknown) => error);
  expect(late instanceof Fault && late.reason).toBe("DRAINING");
  gate.resolve();
  expect(await Promise.all(taken)).toEqual([1, 2, 3]);
  await closed;
});

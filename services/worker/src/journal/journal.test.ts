import { mkdtempSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { openJournal } from "./journal.ts";

const freshPath = (): string => join(mkdtempSync(join(tmpdir(), "journal-")), "journal.log");
const reportOf = (text: string) => ({
  bootMs: 1,
  bootId: "b",
  wallMs: 2,
  report: Buffer.from(text),
});
const texts = (entries: readonly { report: Uint8Array }[]): string[] =>
  entries.map((entry) => Buffer.from(entry.report).toString());

test("a report survives a restart until it is acknowledged, and ids never repeat", async () => {
  const path = freshPath();
  {
    await using journal = await openJournal(path);
    const [first] = await Promise.all(["a", "b", "c"].map((t) => journal.append(reportOf(t))));
    expect(first?.id).toBe(1n);
    journal.acknowledge(1n);
  }
  {
    await using journal = await openJournal(path);
    expect(texts(journal.pending())).toEqual(["b", "c"]);
    journal.acknowledge(3n);
  }
  await using journal = await openJournal(path);
  expect(journal.pending()).toEqual([]);
  expect((await journal.append(reportOf("d"))).id).toBe(4n);
});

test("cut anywhere, a journal keeps a prefix of its reports and goes on", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 5 }), fc.nat(), async (count, cutSeed) => {
      const path = freshPath();
      {
        await using journal = await openJournal(path);
        for (let i = 0; i < count; i += 1) await journal.append(reportOf(`r${i}`));
      }
      const { length } = readFileSync(path);
      truncateSync(path, length === 0 ? 0 : cutSeed % (length + 1));
      await using journal = await openJournal(path);
      const kept = texts(journal.pending());
      expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => `r${i}`));
      const next = await journal.append(reportOf("next"));
      expect(next.id).toBe(BigInt(kept.length + 1));
    }),
    { numRuns: 60 },
  );
});

test("a damaged line ends the journal there", async () => {
  const path = freshPath();
  {
    await using journal = await openJournal(path);
    for (const t of ["a", "b", "c"]) await journal.append(reportOf(t));
  }
  const lines = readFileSync(path, "utf8").split("\n");
  writeFileSync(path, [lines[0], lines[1]?.replace('"id"', '"ID"'), lines[2], ""].join("\n"));
  await using journal = await openJournal(path);
  expect(texts(journal.pending())).toEqual(["a"]);
});

test("a journal whose reports are all acknowledged does not grow for ever", async () => {
  const path = freshPath();
  await using journal = await openJournal(path);
  const big = "x".repeat(100_000);
  for (let i = 0; i < 40; i += 1) {
    const { id } = await journal.append(reportOf(big));
    journal.acknowledge(id);
  }
  expect(readFileSync(path).length).toBeLessThan(2_000_000);
  expect((await journal.append(reportOf("after"))).id).toBe(41n);
});

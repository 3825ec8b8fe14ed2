import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { testDatabase } from "@fastgpu/testkit/database";
import { aTenant } from "@fastgpu/testkit/factories";
import { idToUuid } from "@fastgpu/domain/ids";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { expect, test } from "vitest";
import { openDatabase } from "./database.ts";
import { migrate } from "./migrate.ts";
import { statement } from "./pool.ts";
import { transaction, withTenant } from "./transaction.ts";

const things = `
  CREATE TABLE things (org_id uuid NOT NULL, project_id uuid NOT NULL, name text NOT NULL);
  ALTER TABLE things ENABLE ROW LEVEL SECURITY;
  ALTER TABLE things FORCE ROW LEVEL SECURITY;
  CREATE POLICY tenant ON things USING (tenant.sees(org_id, project_id));
`;
const addThing = statement("add_thing", "INSERT INTO things VALUES ($1, $2, $3)");
const listThings = statement<{ name: string }>(
  "list_things",
  "SELECT name FROM things ORDER BY name",
);

async function directoryWith(files: Record<string, string>): Promise<string> {
  const directory = await scratchDirectory();
  for (const [name, sql] of Object.entries(files)) await writeFile(join(directory, name), sql);
  return directory;
}

async function refusal(promise: Promise<unknown>): Promise<Fault> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Fault)) throw new Error(`not a fault: ${String(error)}`);
  return error;
}

test("runners that come together apply every file once", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  const directory = await directoryWith({
    "0001_things.sql": things,
    "0002_more.sql": "CREATE TABLE more (n int)",
  });
  const options = { ownerUrl: db.urls["demo"]!.owner, service: "demo", directory, log: quiet };
  const applied = await Promise.all(Array.from({ length: 4 }, () => migrate(options)));
  expect(applied.toSorted((a, b) => a - b)).toEqual([0, 0, 0, 2]);
});

test("an edited old file, a gap in the numbers and broken SQL are refused, and change nothing", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  const run = async (files: Record<string, string>) =>
    migrate({
      ownerUrl: db.urls["demo"]!.owner,
      service: "demo",
      directory: await directoryWith(files),
      log: quiet,
    });
  await run({ "0001_things.sql": things });
  expect((await refusal(run({ "0001_things.sql": `${things} -- edited` }))).reason).toBe(
    "CHECKSUM_MISMATCH",
  );
  expect(
    (await refusal(run({ "0001_things.sql": things, "0003_c.sql": "SELECT 1" }))).hint,
  ).toContain("0002_");
  const broken = "CREATE TABLE half (n int); SELECT nonsense";
  expect(
    (await refusal(run({ "0001_things.sql": things, "0002_b.sql": broken }))).message,
  ).toContain("nonsense");
  expect(await run({ "0001_things.sql": things, "0002_b.sql": "CREATE TABLE half (n int)" })).toBe(
    1,
  );
  expect(await run({ "0001_things.sql": things }), "an older version beside a newer schema").toBe(
    0,
  );
});

test("a tenant sees and changes only its own rows; without a tenant, none", async () => {
  const directory = await directoryWith({ "0001_things.sql": things });
  await using db = await testDatabase({ services: ["demo"], migrations: { demo: directory } });
  await using pools = openDatabase({ service: "demo", urls: db.urls["demo"]!, log: quiet });
  const [a, b] = [aTenant(), aTenant()];
  const sibling = { org: a.org, project: b.project };
  for (const [tenant, name] of [
    [a, "of a"],
    [b, "of b"],
    [sibling, "sibling"],
  ] as const) {
    await transaction(pools.api, async (tx) => {
      await withTenant(tx, tenant);
      await tx.query(addThing, [idToUuid(tenant.org), idToUuid(tenant.project), name]);
    });
  }
  const seen = (tenant: Parameters<typeof withTenant>[1]) =>
    transaction(pools.api, async (tx) => {
      await withTenant(tx, tenant);
      return (await tx.query(listThings)).map((row) => row.name);
    });
  expect(await seen(a)).toEqual(["of a"]);
  expect(await seen({ org: a.org, project: "all" })).toEqual(["of a", "sibling"]);
  expect(await seen(b)).toEqual(["of b"]);
  expect(await pools.api.query(listThings)).toEqual([]);
  expect(await pools.core.query(listThings)).toHaveLength(3);
  const foreign = transaction(pools.api, async (tx) => {
    await withTenant(tx, a);
    await tx.query(addThing, [idToUuid(b.org), idToUuid(b.project), "smuggled"]);
  });
  expect(String((await refusal(foreign)).cause)).toContain("row-level security");
});

test("roles end at their schema, and the auditor only reads", async () => {
  await using db = await testDatabase({ services: ["demo", "other"] });
  await using demo = openDatabase({ service: "demo", urls: db.urls["demo"]!, log: quiet });
  await using auditor = openDatabase({
    service: "demo",
    urls: { api: db.auditorUrl, core: db.auditorUrl },
    log: quiet,
  });
  const foreign = statement("foreign", "SELECT count(*) FROM other.outbox");
  await expect(demo.core.query(foreign)).rejects.toThrow(/permission denied/);
  expect(await auditor.core.query(foreign)).toEqual([{ count: 0n }]);
  const write = statement("write", "DELETE FROM other.outbox");
  await expect(auditor.core.query(write)).rejects.toThrow(/read-only|permission denied/);
  await expect(demo.api.query(statement("peek", "SELECT seq FROM event_log"))).rejects.toThrow(
    /permission denied/,
  );
});

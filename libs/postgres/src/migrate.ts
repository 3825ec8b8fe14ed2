import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Fault } from "@fastgpu/domain/fault";
import type { Logger } from "@fastgpu/telemetry/log";
import pg from "pg";
import { clientConfig } from "./pool.ts";

/** Options of {@link migrate}. */
export interface MigrateOptions {
  /** URL of the schema's owner role. */
  readonly ownerUrl: string;
  /** The schema, named as its service. */
  readonly service: string;
  /** The service's own migrations: `0001_tasks.sql`, `0002_….sql`, … */
  readonly directory: string;
  readonly log: Logger;
}

/** One numbered file of SQL. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly sha256: string;
}

/** The tables of this library (outbox, inbox, leader, requests), in every service's schema. */
export const baseMigrations = fileURLToPath(new URL("../migrations", import.meta.url));

/**
 * Brings a service's schema up to date: first this library's tables, then the service's own files,
 * each in a transaction of its own. Runners that come at the same time wait for the first. A file
 * that changed after it was applied is a Fault; files that a newer version applied are left alone.
 * Returns how many were applied.
 */
export async function migrate(options: MigrateOptions): Promise<number> {
  const sets = [
    { set: "base", migrations: await readMigrations(baseMigrations) },
    { set: options.service, migrations: await readMigrations(options.directory) },
  ];
  const client = new pg.Client(
    clientConfig({
      url: options.ownerUrl,
      name: `${options.service} migrate`,
      statementTimeoutMs: 600_000,
    }),
  );
  await client.connect();
  try {
    await client.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [
      `${options.service}.migrate`,
    ]);
    await client.query(`CREATE TABLE IF NOT EXISTS ${options.service}.migrations (
      set text, number integer, name text NOT NULL, sha256 text NOT NULL, applied_ms bigint NOT NULL,
      PRIMARY KEY (set, number))`);
    let applied = 0;
    for (const { set, migrations } of sets)
      applied += await applySet(client, { ...options, set, migrations });
    return applied;
  } finally {
    await client.end();
  }
}

/** Reads a directory of migrations, refusing gaps, doubles and names without a number. */
export async function readMigrations(directory: string): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  const migrations: Migration[] = [];
  for (const name of names) {
    const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1]);
    if (number !== migrations.length + 1) {
      throw new Fault("ILLEGAL_STATE", `migration ${name} in ${directory} is out of order`, {
        hint: `the next one is ${String(migrations.length + 1).padStart(4, "0")}_WHAT_IT_DOES.sql`,
      });
    }
    const sql = await readFile(join(directory, name), "utf8");
    migrations.push({ number, name, sql, sha256: createHash("sha256").update(sql).digest("hex") });
  }
  return migrations;
}

async function applySet(
  client: pg.Client,
  options: MigrateOptions & { set: string; migrations: readonly Migration[] },
): Promise<number> {
  const table = `${options.service}.migrations`;
  const { rows } = await client.query<{ number: number; name: string; sha256: string }>(
    `SELECT number, name, sha256 FROM ${table} WHERE set = $1 ORDER BY number`,
    [options.set],
  );
  const done = new Map(rows.map((row) => [row.number, row]));
  let applied = 0;
  for (const migration of options.migrations) {
    const before = done.get(migration.number);
    if (before !== undefined) {
      if (before.sha256 !== migration.sha256) throw editedFault(migration, before.name);
      continue;
    }
    try {
      await client.query("BEGIN");
      await client.query(`SET LOCAL search_path = ${options.service}`);
      await client.query(migration.sql);
      await client.query(`INSERT INTO ${table} VALUES ($1, $2, $3, $4, $5)`, [
        options.set,
        migration.number,
        migration.name,
        migration.sha256,
        Date.now(),
      ]);
      await client.query("COMMIT");
    } catch (error) {
      await client.query("ROLLBACK").catch(() => undefined);
      throw new Fault(
        "INTERNAL",
        `migration ${migration.name} of ${options.service} failed: ${String(error)}`,
        {
          cause: error,
        },
      );
    }
    options.log.info({ service: options.service, migration: migration.name }, "migrated");
    applied += 1;
  }
  return applied;
}

function editedFault(migration: Migration, appliedAs: string): Fault {
  return new Fault(
    "CHECKSUM_MISMATCH",
    `migration ${migration.name} is not the ${appliedAs} that was applied`,
    {
      hint: "restore the file and put the change into a new migration",
    },
  );
}

import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { baseMigrations, migrate, readMigrations } from "@fastgpu/postgres/migrate";
import { atDatabase, provision } from "@fastgpu/postgres/provision";
import type { Provisioned } from "@fastgpu/postgres/provision";
import pg from "pg";
import { quiet } from "./log.ts";
import { testPostgres } from "./servers.ts";

/** Options of {@link testDatabase}. */
export interface TestDatabaseOptions {
  /** The schemas in it, each with its service's migrations. */
  readonly services: readonly string[];
  /** Other directories of migrations than services/X/migrations: for tests of libraries. */
  readonly migrations?: Readonly<Record<string, string>>;
  /** Superuser's URL of another server than the run's. */
  readonly server?: string;
}

/** A database of one test file, dropped at the end. */
export interface TestDatabase extends Provisioned, AsyncDisposable {
  /** Superuser's URL to it. */
  readonly adminUrl: string;
}

const PASSWORD = "test";

/**
 * A database with the given services' schemas, copied from a template that is migrated once a run
 * (a copy takes tens of milliseconds). Use: `await using db = await testDatabase({services: ["scheduler"]})`.
 */
export async function testDatabase(options: TestDatabaseOptions): Promise<TestDatabase> {
  const server = options.server ?? (await testPostgres());
  const template = await ensureTemplate(server, options);
  const name = `test_${randomBytes(8).toString("hex")}`;
  await admin(server, (client) => client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  const provisioned = await provision({
    adminUrl: server,
    database: name,
    services: options.services,
    password: () => PASSWORD,
  });
  return {
    ...provisioned,
    adminUrl: atDatabase(server, name),
    async [Symbol.asyncDispose]() {
      await admin(server, (client) => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
    },
  };
}

async function ensureTemplate(server: string, options: TestDatabaseOptions): Promise<string> {
  const empty = await mkdtemp(join(tmpdir(), "fastgpu-none-"));
  try {
    const directories = options.services.map((service) => ({
      service,
      directory: options.migrations?.[service] ?? serviceMigrations(service) ?? empty,
    }));
    const template = await templateName(directories);
    await admin(server, async (client) => {
      await client.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [template]);
      const { rows } = await client.query<{ ready: boolean }>(
        "SELECT datistemplate AS ready FROM pg_database WHERE datname = $1",
        [template],
      );
      if (rows[0]?.ready === true) return;
      // Half a template: its maker was killed.
      if (rows.length > 0) await client.query(`DROP DATABASE ${template} WITH (FORCE)`);
      const { services } = options;
      const made = await provision({
        adminUrl: server,
        database: template,
        services,
        password: () => PASSWORD,
      });
      for (const { service, directory } of directories) {
        const ownerUrl = made.urls[service]?.owner ?? "";
        await migrate({ ownerUrl, service, directory, log: quiet });
      }
      await client.query(`ALTER DATABASE ${template} WITH IS_TEMPLATE true`);
    });
    return template;
  } finally {
    await rm(empty, { recursive: true, force: true });
  }
}

function serviceMigrations(service: string): string | undefined {
  const directory = fileURLToPath(
    new URL(`../../../services/${service}/migrations`, import.meta.url),
  );
  return existsSync(directory) ? directory : undefined;
}

/** Named by everything in it, so that an edited migration makes another template. */
async function templateName(
  directories: readonly { service: string; directory: string }[],
): Promise<string> {
  const hash = createHash("sha256");
  for (const { service, directory } of [
    { service: "base", directory: baseMigrations },
    ...directories,
  ]) {
    hash.update(`\0${service}`);
    for (const migration of await readMigrations(directory)) hash.update(`\0${migration.sha256}`);
  }
  return `template_${hash.digest("hex").slice(0, 24)}`;
}

async function admin(url: string, use: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

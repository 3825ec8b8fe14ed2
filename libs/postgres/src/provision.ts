import { createHash } from "node:crypto";
import pg from "pg";
import { clientConfig } from "./pool.ts";

/** Connection strings of one service's three roles. */
export interface ServiceUrls {
  /** Owns the schema; runs migrations. */
  readonly owner: string;
  /** Row-level security applies: see `withTenant`. */
  readonly api: string;
  /** Bypasses row-level security: cycle, relay, batch writer. */
  readonly core: string;
}

/** Options of {@link provision}. */
export interface ProvisionOptions {
  /** A superuser's URL to any database of the server. */
  readonly adminUrl: string;
  /** The platform's database; made if missing. */
  readonly database: string;
  readonly services: readonly string[];
  /** The password of a role such as `scheduler_api` or `auditor`. */
  readonly password: (role: string) => string;
}

/** What {@link provision} answers. */
export interface Provisioned {
  readonly urls: Readonly<Record<string, ServiceUrls>>;
  /** Reads every schema, writes nothing. */
  readonly auditorUrl: string;
}

const kinds = ["owner", "api", "core"] as const;
const AUDITOR = "auditor";

/**
 * Makes the database, and for each service a schema with its three roles: `<svc>_owner`, `<svc>_api`
 * under row-level security and `<svc>_core` that bypasses it; and the read-only role `auditor`.
 * Safe to run again and from several processes at once; passwords are set to those given.
 */
export async function provision(options: ProvisionOptions): Promise<Provisioned> {
  for (const name of [options.database, ...options.services]) {
    if (!/^[a-z][a-z0-9_]{0,40}$/.test(name)) throw new RangeError(`not a plain name: ${name}`);
  }
  const target = atDatabase(options.adminUrl, options.database);
  await inDatabase(options.adminUrl, async (client) => {
    // Roles belong to the whole server, so everybody waits at this one database for the others.
    await client.query("SELECT pg_advisory_lock(hashtextextended('fastgpu provision', 0))");
    const found = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [
      options.database,
    ]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${options.database}`);
    await inDatabase(target, (inner) => provisionDatabase(inner, options));
  });
  const url = (role: string): string => roleUrl(target, role, options.password(role));
  return {
    urls: Object.fromEntries(
      options.services.map((service) => [service, serviceUrls(service, url)]),
    ),
    auditorUrl: url(AUDITOR),
  };
}

/** The same server, another database. */
export function atDatabase(url: string, database: string): string {
  const result = new URL(url);
  result.pathname = `/${database}`;
  return result.href;
}

/** The same database as another role. */
export function roleUrl(url: string, role: string, password: string): string {
  const result = new URL(url);
  result.username = role;
  result.password = encodeURIComponent(password);
  return result.href;
}

function serviceUrls(service: string, url: (role: string) => string): ServiceUrls {
  return {
    owner: url(`${service}_owner`),
    api: url(`${service}_api`),
    core: url(`${service}_core`),
  };
}

async function inDatabase(url: string, use: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client(
    clientConfig({ url, name: "fastgpu provision", statementTimeoutMs: 60_000 }),
  );
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

async function provisionDatabase(client: pg.Client, options: ProvisionOptions): Promise<void> {
  const print = fingerprint(options);
  await client.query("CREATE SCHEMA IF NOT EXISTS tenant");
  const { rows } = await client.query<{ comment: string | null }>(
    "SELECT obj_description('tenant'::regnamespace) AS comment",
  );
  if (rows[0]?.comment === print) return;
  await client.query("BEGIN");
  await client.query(tenantSql);
  await makeRole(client, AUDITOR, { bypass: true, password: options.password(AUDITOR) });
  await client.query(`ALTER ROLE ${AUDITOR} SET default_transaction_read_only = on`);
  for (const service of options.services) {
    for (const kind of kinds) {
      const role = `${service}_${kind}`;
      await makeRole(client, role, { bypass: kind !== "api", password: options.password(role) });
      await client.query(`ALTER ROLE ${role} SET search_path = ${service}`);
    }
    await client.query(serviceSql(service));
  }
  await client.query(`COMMENT ON SCHEMA tenant IS ${client.escapeLiteral(print)}`);
  await client.query("COMMIT");
}

async function makeRole(
  client: pg.Client,
  role: string,
  options: { bypass: boolean; password: string },
): Promise<void> {
  const { rowCount } = await client.query("SELECT 1 FROM pg_roles WHERE rolname = $1", [role]);
  const verb = rowCount === 0 ? "CREATE" : "ALTER";
  const bypass = options.bypass ? "BYPASSRLS" : "NOBYPASSRLS";
  await client.query(
    `${verb} ROLE ${role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE ${bypass} PASSWORD ${client.escapeLiteral(options.password)}`,
  );
}

/** Changes with everything that provisioning would change: an unchanged start skips it all. */
function fingerprint(options: ProvisionOptions): string {
  const hash = createHash("sha256").update(tenantSql).update(serviceSql("x"));
  for (const service of [...options.services].sort()) {
    for (const kind of kinds)
      hash.update(`\0${service}_${kind}\0${options.password(`${service}_${kind}`)}`);
  }
  return `provisioned ${hash.update(`\0${options.password(AUDITOR)}`).digest("hex")}`;
}

/** What policies ask: `USING (tenant.sees(org_id, project_id))`. Unset settings see nothing. */
const tenantSql = `
  REVOKE ALL ON SCHEMA public FROM PUBLIC;
  GRANT USAGE ON SCHEMA tenant TO PUBLIC;
  CREATE OR REPLACE FUNCTION tenant.org() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('fastgpu.org', true), '')::uuid $$;
  CREATE OR REPLACE FUNCTION tenant.all_projects() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT coalesce(current_setting('fastgpu.project', true) = 'all', false) $$;
  CREATE OR REPLACE FUNCTION tenant.project() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT CASE WHEN current_setting('fastgpu.project', true) IN ('', 'all') THEN NULL
              ELSE current_setting('fastgpu.project', true)::uuid END $$;
  CREATE OR REPLACE FUNCTION tenant.sees(org uuid, project uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT org = tenant.org() AND (tenant.all_projects() OR project = tenant.project()) $$;
`;

function serviceSql(service: string): string {
  const owner = `${service}_owner`;
  const defaults = `ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} IN SCHEMA ${service}`;
  return `
    CREATE SCHEMA IF NOT EXISTS ${service};
    ALTER SCHEMA ${service} OWNER TO ${owner};
    GRANT USAGE ON SCHEMA ${service} TO ${service}_api, ${service}_core, ${AUDITOR};
    ${defaults} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ${service}_api, ${service}_core;
    ${defaults} GRANT USAGE, SELECT ON SEQUENCES TO ${service}_api, ${service}_core;
    ${defaults} GRANT SELECT ON TABLES TO ${AUDITOR};
  `;
}

import { join } from "node:path";
import { startEmbeddedPostgres } from "@fastgpu/postgres/embedded";
import { provision } from "@fastgpu/postgres/provision";
import type { Provisioned } from "@fastgpu/postgres/provision";
import type { Logger } from "@fastgpu/telemetry/log";

/** The platform's database name. */
export const DATABASE = "fastgpu";

/** Options of {@link startDatabase}. */
export interface StartDatabaseOptions {
  /** DATA; the caller holds its lock. */
  readonly dataDir: string;
  /** Missing = any free port of the loopback address. */
  readonly port?: number | undefined;
  readonly services: readonly string[];
  /** The password of `postgres`, `auditor` and of each service's roles, from DATA/keys. */
  readonly password: (role: string) => string;
  readonly log: Logger;
}

/** The embedded database with every service's roles. */
export interface EmbeddedDatabase extends Provisioned, AsyncDisposable {
  /** Superuser's URL, to the server's own database. */
  readonly adminUrl: string;
  readonly port: number;
  readonly pid: number;
}

/** Starts the embedded Postgres and makes what the services need in it, all but their migrations. */
export async function startDatabase(options: StartDatabaseOptions): Promise<EmbeddedDatabase> {
  const server = await startEmbeddedPostgres({
    dataDir: join(options.dataDir, "postgres"),
    port: options.port,
    password: options.password("postgres"),
    log: options.log,
  });
  try {
    const { adminUrl, port } = server;
    const { services, password } = options;
    const provisioned = await provision({ adminUrl, database: DATABASE, services, password });
    return {
      ...provisioned,
      adminUrl,
      port,
      get pid() {
        return server.pid;
      },
      [Symbol.asyncDispose]: () => server.stop(),
    };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

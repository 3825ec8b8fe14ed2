/** A Postgres of its own, fsync on, with one service's schema: what experiments without a platform run on. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startEmbeddedPostgres } from "@fastgpu/postgres/embedded";
import { migrate } from "@fastgpu/postgres/migrate";
import { provision } from "@fastgpu/postgres/provision";
import type { ServiceUrls } from "@fastgpu/postgres/provision";
import { createLogger } from "@fastgpu/telemetry/log";

const log = createLogger({ service: "bench", level: "error" });
const password = "bench";

/** A running database. */
export interface ServiceDatabase extends AsyncDisposable {
  readonly urls: ServiceUrls;
}

/** Starts it in a directory that is removed at the end. */
export async function startServiceDatabase(
  service: "billing" | "scheduler",
): Promise<ServiceDatabase> {
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-"));
  await chmod(directory, 0o755);
  const server = await startEmbeddedPostgres({
    dataDir: join(directory, "postgres"),
    password,
    log,
  });
  const { urls } = await provision({
    adminUrl: server.adminUrl,
    database: "fastgpu",
    services: [service],
    password: () => password,
  });
  const own = urls[service];
  if (own === undefined) throw new Error(`${service} has no schema`);
  const migrations = fileURLToPath(
    new URL(`../../services/${service}/migrations`, import.meta.url),
  );
  await migrate({ ownerUrl: own.owner, service, directory: migrations, log });
  return {
    urls: own,
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

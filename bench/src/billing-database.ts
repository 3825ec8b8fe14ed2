/** A Postgres of its own, fsync on, with billing's schema: what the experiments about money run on. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Billing } from "@fastgpu/billing/billing";
import { openOrganizations } from "@fastgpu/billing/organizations";
import { openPriceBook } from "@fastgpu/billing/price-book";
import { openDatabase } from "@fastgpu/postgres/database";
import { startEmbeddedPostgres } from "@fastgpu/postgres/embedded";
import { migrate } from "@fastgpu/postgres/migrate";
import { provision } from "@fastgpu/postgres/provision";
import type { ServiceUrls } from "@fastgpu/postgres/provision";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import type { Tracing } from "@fastgpu/telemetry/tracing";

const log = createLogger({ service: "bench", level: "error" });
const password = "bench";

/** A running database. */
export interface BillingDatabase extends AsyncDisposable {
  readonly urls: ServiceUrls;
}

/** Starts it in a directory that is removed at the end. */
export async function startBillingDatabase(): Promise<BillingDatabase> {
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
    services: ["billing"],
    password: () => password,
  });
  const own = urls["billing"];
  if (own === undefined) throw new Error("billing has no schema");
  const migrations = fileURLToPath(new URL("../../services/billing/migrations", import.meta.url));
  await migrate({ ownerUrl: own.owner, service: "billing", directory: migrations, log });
  return {
    urls: own,
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The core of billing over such a database, without network; new organisations start with `creditNanos`. */
export async function openBilling(
  urls: Pick<ServiceUrls, "api" | "core">,
  creditNanos: bigint,
): Promise<Billing & { readonly tracing: Tracing } & AsyncDisposable> {
  const clock = { nowMs: () => Date.now() };
  const db = openDatabase({ service: "billing", urls, log });
  const prices = openPriceBook({ pool: db.core, clock });
  await prices.refresh(0);
  const organizations = openOrganizations({
    ...{ pool: db.core, clock, log },
    startingCredit: { firstNanos: creditNanos, othersNanos: creditNanos },
    directory: {
      organizationOfProject: () => Promise.resolve(undefined),
      organizationExists: () => Promise.resolve(false),
    },
  });
  return {
    ...{ db, clock, log, prices, organizations, tracing: passiveTracing },
    pageTokens: createPageTokens(new Uint8Array(32)),
    wakeRelay: () => undefined,
    [Symbol.asyncDispose]: () => db[Symbol.asyncDispose](),
  };
}

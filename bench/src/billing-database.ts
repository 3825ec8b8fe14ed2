/** What the experiments about money run on. */
import type { Billing } from "@fastgpu/billing/billing";
import { openOrganizations } from "@fastgpu/billing/organizations";
import { openPriceBook } from "@fastgpu/billing/price-book";
import { openDatabase } from "@fastgpu/postgres/database";
import type { ServiceUrls } from "@fastgpu/postgres/provision";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import type { Tracing } from "@fastgpu/telemetry/tracing";

const log = createLogger({ service: "bench", level: "error" });

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

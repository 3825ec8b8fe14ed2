import type { Clock } from "@fastgpu/domain/clock";
import type { Database } from "@fastgpu/postgres/database";
import type { PageTokens } from "@fastgpu/rpc/page-token";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Organizations } from "./organizations.ts";
import type { PriceBook } from "./price-book.ts";

/** What the use cases of billing work with. */
export interface Billing {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly prices: PriceBook;
  readonly organizations: Organizations;
  readonly pageTokens: PageTokens;
  /** Called after a commit that appended events. */
  wakeRelay(): void;
}

import type { Querier } from "@fastgpu/postgres/pool";
import { statement } from "@fastgpu/postgres/pool";

/** One line of the price book. */
export interface Price {
  readonly sku: string;
  readonly version: number;
  readonly currency: string;
  /** Price of one logical GPU for one hour, nano-units. */
  readonly hourlyNanos: bigint;
  readonly validFromMs: number;
  readonly description: string;
}

const allPrices = statement<{
  sku: string;
  version: number;
  currency: string;
  hourly_nanos: bigint;
  valid_from: Date;
  description: string;
}>(
  "all_prices",
  `SELECT sku, version, currency, hourly_nanos, valid_from, description FROM prices ORDER BY sku, version`,
);

/** The whole price book. */
export async function readPrices(from: Querier): Promise<Price[]> {
  const rows = await from.query(allPrices);
  return rows.map((row) => ({
    sku: row.sku,
    version: row.version,
    currency: row.currency,
    hourlyNanos: row.hourly_nanos,
    validFromMs: row.valid_from.getTime(),
    description: row.description,
  }));
}

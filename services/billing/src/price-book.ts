import type { Clock } from "@fastgpu/domain/clock";
import type { Pool } from "@fastgpu/postgres/pool";
import { readPrices } from "./store/prices.ts";
import type { Price } from "./store/prices.ts";

/** The price book in memory. It only grows, so that what is known stays true; what is unknown is looked up again. */
export interface PriceBook {
  /** Reads the table again unless that was done within the last `maxAgeMs`. */
  refresh(maxAgeMs: number): Promise<void>;
  /** The price in force for a SKU. */
  current(sku: string): Price | undefined;
  /** The price of one version. */
  pinned(sku: string, version: number): Price | undefined;
  /** All prices in force, by SKU. */
  inForce(): Price[];
}

/** Opens an empty price book; `refresh` fills it. */
export function openPriceBook(options: { pool: Pool; clock: Clock }): PriceBook {
  let versions = new Map<string, Price[]>();
  let readAtMs = Number.NEGATIVE_INFINITY;
  const current = (sku: string): Price | undefined => {
    const nowMs = options.clock.nowMs();
    return versions
      .get(sku)
      ?.filter((price) => price.validFromMs <= nowMs)
      .toSorted((a, b) => b.validFromMs - a.validFromMs)[0];
  };
  return {
    async refresh(maxAgeMs) {
      const nowMs = options.clock.nowMs();
      if (nowMs - readAtMs < maxAgeMs) return;
      versions = Map.groupBy(await readPrices(options.pool), (price) => price.sku);
      readAtMs = nowMs;
    },
    current,
    pinned: (sku, version) => versions.get(sku)?.find((price) => price.version === version),
    inForce: () =>
      [...versions.keys()]
        .toSorted()
        .map(current)
        .filter((price) => price !== undefined),
  };
}

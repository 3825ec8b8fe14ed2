import { setImmediate as nextTurn } from "node:timers/promises";
import type { AttemptId } from "@fastgpu/domain/ids";
import { rateSegment } from "@fastgpu/ledger/rate";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { PriceBook } from "../price-book.ts";
import { insertMissingUsage, insertUsage, isRepeatedUsage } from "../store/usage.ts";
import type { AddedUsage, RatedSegment, Segment, UsageOwner } from "../store/usage.ts";

/** Segments that the scheduler cut for one attempt. */
export interface UsageCut {
  readonly owner: UsageOwner;
  readonly segments: readonly Segment[];
  /** True where no segment follows. */
  readonly final: boolean;
}

/** What a batch of cuts amounts to. */
export interface RatedUsage {
  /** What each attempt newly owes. */
  readonly added: ReadonlyMap<AttemptId, AddedUsage>;
  /** Segments in the batch, those included that were there before. */
  readonly segments: number;
  readonly unpriced: number;
}

/** Segments of one statement: the next ones are made ready while the database works on these. */
const SLICE = 2_000;

const savepoint = statement("usage_savepoint", "SAVEPOINT usage");
const undo = statement("usage_undo", "ROLLBACK TO SAVEPOINT usage");

/**
 * Rates segments and writes them, each once. The inbox has left out events that come again, so that a segment is new
 * unless the scheduler cut it twice: the quick way assumes that, and the first violation of the key leads to the slow
 * way, which leaves out what is there.
 */
export async function rateUsage(
  tx: Tx,
  prices: PriceBook,
  cuts: readonly UsageCut[],
): Promise<RatedUsage> {
  await knowPrices(prices, cuts);
  const slices: RatedSegment[][] = [];
  const added = new Map<AttemptId, { amountNanos: bigint; records: number }>();
  let inFlight: Promise<void> = Promise.resolve();
  await tx.query(savepoint);
  try {
    for (const slice of sliced(prices, cuts)) {
      slices.push(slice);
      for (const { owner, amountNanos } of slice) {
        const sum = added.get(owner.attempt) ?? { amountNanos: 0n, records: 0 };
        sum.amountNanos += amountNanos;
        sum.records += 1;
        added.set(owner.attempt, sum);
      }
      await inFlight;
      inFlight = insertUsage(tx, slice);
      // Somebody always waits for it, but maybe only after it has failed.
      inFlight.catch(() => undefined);
      // The statement must leave the process before the next slice keeps it busy.
      await nextTurn();
    }
    await inFlight;
  } catch (error) {
    if (!isRepeatedUsage(error)) throw error;
    await tx.query(undo);
    return withoutRepeated(tx, [...slices, ...sliced(prices, cuts, count(slices))]);
  }
  return { added, ...figuresOf(slices) };
}

async function withoutRepeated(tx: Tx, slices: readonly RatedSegment[][]): Promise<RatedUsage> {
  const added = new Map<AttemptId, AddedUsage>();
  for (const slice of slices) {
    for (const [attempt, { amountNanos, records }] of await insertMissingUsage(tx, slice)) {
      const before = added.get(attempt) ?? { amountNanos: 0n, records: 0 };
      added.set(attempt, {
        amountNanos: before.amountNanos + amountNanos,
        records: before.records + records,
      });
    }
  }
  return { added, ...figuresOf(slices) };
}

/** Rates segments, `SLICE` at a time, after the first `skip`. */
function* sliced(
  prices: PriceBook,
  cuts: readonly UsageCut[],
  skip = 0,
): Generator<RatedSegment[], void, undefined> {
  let slice: RatedSegment[] = [];
  let seen = 0;
  for (const { owner, segments } of cuts) {
    for (const segment of segments) {
      seen += 1;
      if (seen <= skip) continue;
      const price = prices.pinned(segment.sku, segment.priceVersion);
      const { amountNanos, freeReason } = rateSegment(segment.kind, segment, price?.hourlyNanos);
      slice.push({ owner, segment, amountNanos, freeReason });
      if (slice.length < SLICE) continue;
      yield slice;
      slice = [];
    }
  }
  if (slice.length > 0) yield slice;
}

function count(slices: readonly RatedSegment[][]): number {
  return slices.reduce((sum, slice) => sum + slice.length, 0);
}

function figuresOf(slices: readonly RatedSegment[][]): { segments: number; unpriced: number } {
  let unpriced = 0;
  for (const slice of slices) {
    for (const { freeReason } of slice) if (freeReason === "no_price") unpriced += 1;
  }
  return { segments: count(slices), unpriced };
}

/** Versions pinned through another replica may be newer than our copy of the price book. */
async function knowPrices(prices: PriceBook, cuts: readonly UsageCut[]): Promise<void> {
  const known = cuts.every((cut) =>
    cut.segments.every((segment) => prices.pinned(segment.sku, segment.priceVersion) !== undefined),
  );
  if (!known) await prices.refresh(0);
}

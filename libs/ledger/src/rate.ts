import { segmentAmountNanos } from "@fastgpu/domain/money";

/** What a GPU's time was spent on. */
export const usageKinds = [
  "starting",
  "billable",
  "stopping",
  "fault",
  "sanitising",
  "unknown",
] as const;
export type UsageKind = (typeof usageKinds)[number];

/** Why a segment costs nothing. */
export type FreeReason =
  | "starting"
  | "fault"
  | "sanitising"
  | "unknown"
  | "free_sku"
  /** The segment names a price that the price book does not have: counted, shown, never charged. */
  | "no_price";

/** Where a segment stands on the attempt's billing clock, in milliseconds since the billing start. */
export interface BillingSpan {
  readonly billingStartMs: number;
  readonly billingEndMs: number;
}

/** A segment's price tag: an amount ≥ 0, and a reason wherever the segment is free. */
export interface Rating {
  readonly amountNanos: bigint;
  readonly freeReason: FreeReason | undefined;
}

function freeReasonOf(kind: UsageKind): FreeReason | undefined {
  switch (kind) {
    case "billable":
    case "stopping":
      return undefined;
    case "starting":
    case "fault":
    case "sanitising":
    case "unknown":
      return kind;
  }
}

/**
 * Rates one segment at an hourly price in nano-units, `undefined` where there is none. A segment shorter than the
 * price's resolution may cost 0 without a reason: what it owes is in the segment after it, to the nano.
 * Throws RangeError on a span that ends before it starts.
 */
export function rateSegment(
  kind: UsageKind,
  span: BillingSpan,
  hourlyNanos: bigint | undefined,
): Rating {
  const freeReason = freeReasonOf(kind);
  if (freeReason !== undefined) return { amountNanos: 0n, freeReason };
  if (hourlyNanos === undefined) return { amountNanos: 0n, freeReason: "no_price" };
  if (hourlyNanos === 0n) return { amountNanos: 0n, freeReason: "free_sku" };
  const amountNanos = segmentAmountNanos(hourlyNanos, span.billingStartMs, span.billingEndMs);
  return { amountNanos, freeReason: undefined };
}

import { randomBytes } from "node:crypto";
import type { NextId } from "@fastgpu/ledger/hold";

/**
 * Ids for the transfers of one batch: UUIDv7 (RFC 9562) with a counter of 24 bits after the time, so that a batch is
 * one run of neighbouring index entries, and 48 random bits that tell batches of the same millisecond apart.
 */
export function transferIds(nowMs: number, random: Uint8Array = randomBytes(6)): NextId {
  const time = nowMs.toString(16).padStart(12, "0");
  const head = `${time.slice(0, 8)}-${time.slice(8)}-7`;
  const tail = Buffer.from(random).toString("hex").slice(0, 12);
  let count = 0;
  return () => {
    if (count > 0xff_ff_ff) throw new RangeError("a batch has at most 2^24 transfers");
    const digits = count.toString(16).padStart(6, "0");
    count += 1;
    return `${head}${digits.slice(0, 3)}-8${digits.slice(3)}-${tail}`;
  };
}

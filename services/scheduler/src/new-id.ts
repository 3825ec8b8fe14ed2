import { randomFillSync } from "node:crypto";
import { newId as makeId, type Id, type IdPrefix } from "@fastgpu/domain/ids";

const pool = new Uint8Array(10 * 512);
let used = pool.length;

/** A new id at a time of the service's clock; random bytes are drawn in bulk. */
export function newId<P extends IdPrefix>(prefix: P, nowMs: number): Id<P> {
  if (used >= pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const bytes = pool.subarray(used, used + 10);
  used += 10;
  return makeId(prefix, nowMs, bytes);
}

import { idToUuid } from "@fastgpu/domain/ids";
import type { GpuId } from "@fastgpu/domain/ids";
import type { RatedSegment, UsageOwner } from "./usage.ts";

/** The columns of usage_records in the order of {@link copyOf}. */
export const copyUsage = `COPY usage_records (attempt_id, task_id, org_id, project_id, gpu_id, member, seq,
  price_version, start_ms, end_ms, billing_start_ms, billing_end_ms, amount, simulated, kind, sku, free_reason)
  FROM STDIN (FORMAT binary)`;

const COLUMNS = 17;
/** Signature, flags and extension of Postgres' binary copy format. */
const header = Buffer.from("5047434f50590aff0d0a000000000000000000", "hex");
/** Bytes of a row without its texts: counts and lengths, 5 uuids, 3 integers, 5 bigints, a boolean. */
const FIXED = 2 + COLUMNS * 4 + 5 * 16 + 3 * 4 + 5 * 8 + 1;

/** Rated segments in Postgres' binary copy format. Ids are converted once each. */
export function copyOf(rated: readonly RatedSegment[]): Buffer {
  const texts = createTexts();
  const owners = new Map<UsageOwner, Buffer>();
  const gpus = new Map<GpuId, Buffer>();
  let size = header.length + 2;
  for (const { segment, freeReason } of rated) {
    size += FIXED + texts.of(segment.kind).length + texts.of(segment.sku).length;
    if (freeReason !== undefined) size += texts.of(freeReason).length;
  }
  const buffer = Buffer.allocUnsafe(size);
  let at = header.copy(buffer);
  const int = (value: number): void => {
    at = buffer.writeInt32BE(4, at);
    at = buffer.writeInt32BE(value, at);
  };
  const bigint = (value: bigint): void => {
    at = buffer.writeInt32BE(8, at);
    at = buffer.writeBigInt64BE(value, at);
  };
  /** A whole number ≥ 0 that a double holds exactly. */
  const large = (value: number): void => {
    at = buffer.writeInt32BE(8, at);
    at = buffer.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
    at = buffer.writeUInt32BE(value % 0x1_0000_0000, at);
  };
  const bytes = (value: Buffer): void => {
    buffer.set(value, at);
    at += value.length;
  };
  const text = (value: string): void => {
    const encoded = texts.of(value);
    at = buffer.writeInt32BE(encoded.length, at);
    bytes(encoded);
  };
  for (const { owner, segment, amountNanos, freeReason } of rated) {
    at = buffer.writeInt16BE(COLUMNS, at);
    bytes(remembered(owners, owner, ownerFields));
    bytes(remembered(gpus, segment.gpu, uuidField));
    int(segment.member);
    int(segment.seq);
    int(segment.priceVersion);
    large(segment.startMs);
    large(segment.endMs);
    large(segment.billingStartMs);
    large(segment.billingEndMs);
    bigint(amountNanos);
    at = buffer.writeInt32BE(1, at);
    at = buffer.writeUInt8(segment.simulated ? 1 : 0, at);
    text(segment.kind);
    text(segment.sku);
    if (freeReason === undefined) at = buffer.writeInt32BE(-1, at);
    else text(freeReason);
  }
  at = buffer.writeInt16BE(-1, at);
  return buffer.subarray(0, at);
}

/** The four ids of an owner, each behind its length. */
function ownerFields(owner: UsageOwner): Buffer {
  return Buffer.concat([owner.attempt, owner.task, owner.org, owner.project].map(uuidField));
}

function uuidField(id: UsageOwner[keyof UsageOwner] | GpuId): Buffer {
  const field = Buffer.allocUnsafe(20);
  field.writeInt32BE(16, 0);
  field.write(idToUuid(id).replaceAll("-", ""), 4, "hex");
  return field;
}

function remembered<K>(known: Map<K, Buffer>, key: K, make: (key: K) => Buffer): Buffer {
  let made = known.get(key);
  if (made === undefined) {
    made = make(key);
    known.set(key, made);
  }
  return made;
}

/** Texts as bytes: a batch has few different ones. */
function createTexts(): { of(text: string): Buffer } {
  const known = new Map<string, Buffer>();
  return { of: (text) => remembered(known, text, (value) => Buffer.from(value)) };
}

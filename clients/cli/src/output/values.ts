import type { DescEnum } from "@bufbuild/protobuf";
import { formatNanos } from "@fastgpu/domain/money";

/** A moment as the wire carries it (google.protobuf.Timestamp). */
export interface WireTime {
  seconds: bigint;
  nanos: number;
}

/** Milliseconds since the Unix epoch. */
export function timeMs(time: WireTime): number {
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000);
}

/** How long ago, in the largest unit that says something: `12s`, `5m`, `3h`, `9d`; empty: never. */
export function age(time: WireTime | undefined, nowMs: number): string {
  return time === undefined ? "" : shortDuration(Math.max(0, nowMs - timeMs(time)));
}

/** A duration in its two largest units: `850ms`, `12s`, `5m 3s`, `3h 20m`, `9d 4h`. */
export function shortDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = Math.floor(ms / 1000);
  const units: [size: number, name: string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
    [1, "s"],
  ];
  const at = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[at] ?? [1, "s"];
  const [nextSize, nextName] = units[at + 1] ?? [1, ""];
  const rest = nextName === "" ? 0 : Math.floor((seconds % size) / nextSize);
  return `${Math.floor(seconds / size)}${name}${rest > 0 ? ` ${rest}${nextName}` : ""}`;
}

/** How long it is between two moments; empty: one is not known. */
export function span(from: WireTime | undefined, to: WireTime | undefined): string {
  return from === undefined || to === undefined ? "" : shortDuration(timeMs(to) - timeMs(from));
}

/** The moment in ISO 8601 with milliseconds, UTC; empty: none. */
export function isoTime(time: WireTime | undefined): string {
  return time === undefined ? "" : new Date(timeMs(time)).toISOString();
}

/** Bytes in binary units with at most one decimal: `512 B`, `1.5 KiB`, `20 MiB`. */
export function binarySize(bytes: bigint | number): string {
  let value = Number(bytes);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 ? value : Number(value.toFixed(1))} ${units[at]}`;
}

/** Memory given in MiB. */
export function mebibytes(mib: bigint): string {
  return binarySize(mib * 1024n * 1024n);
}

/** An exact amount: `0.012345 USD`; empty: none. */
export function money(amount: { currency: string; nanos: bigint } | undefined): string {
  return amount === undefined ? "" : `${formatNanos(amount.nanos)} ${amount.currency}`;
}

/** The enum value's name as people read it, `TASK_STATE_RUNNING` → `RUNNING`; one unknown here as its number. */
export function enumName(schema: DescEnum, value: number): string {
  return schema.value[value]?.localName ?? String(value);
}

/** The last part of a resource name: `projects/p/tasks/task-1` → `task-1`. */
export function lastPart(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

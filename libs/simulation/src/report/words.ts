import type { Unit } from "../fleet/compare.ts";

/** A duration with two figures that matter: `0 s`, `50 ms`, `4.2 min`, `31 h`, `12 d`. */
export function duration(ms: number): string {
  if (ms !== 0 && Math.abs(ms) < 1_000) return `${Math.round(ms)} ms`;
  const [unit, size] =
    Math.abs(ms) < 120_000
      ? (["s", 1_000] as const)
      : Math.abs(ms) < 7_200_000
        ? (["min", 60_000] as const)
        : Math.abs(ms) < 172_800_000
          ? (["h", 3_600_000] as const)
          : (["d", 86_400_000] as const);
  const value = ms / size;
  return `${value.toFixed(Math.abs(value) < 10 && value !== 0 ? 1 : 0)} ${unit}`;
}

/** A part of one as percent. */
export const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** Nano-USD as dollars and cents. */
export function dollars(nanos: string): string {
  const cents = BigInt(nanos) / 10_000_000n;
  const text = String(cents < 0n ? -cents : cents).padStart(3, "0");
  return `${cents < 0n ? "-" : ""}$${text.slice(0, -2)}.${text.slice(-2)}`;
}

/** GPU-hours. */
export const gpuHours = (hours: number): string => `${hours.toFixed(hours < 100 ? 1 : 0)} GPU-h`;

/** A figure in its unit. */
export function inUnit(value: number, unit: Unit): string {
  switch (unit) {
    case "ms":
      return duration(value);
    case "part":
      return percent(value);
    case "ratio":
      return value.toFixed(2);
    case "hours":
      return gpuHours(value);
    case "dollars":
      return `$${value.toFixed(2)}`;
    case "count":
      return String(Math.round(value));
  }
}

/** How much a figure changes: parts by points, the rest relative to what it was. */
export function changeInWords(before: number, after: number, unit: Unit): string {
  const sign = (value: number): string => (Math.abs(value) < 0.05 ? "±" : value > 0 ? "+" : "−");
  if (unit === "part") {
    const points = 100 * (after - before);
    return `${sign(points)}${Math.abs(points).toFixed(1)} points`;
  }
  if (before === 0) return after === 0 ? "±0 %" : `+${inUnit(after, unit)}`;
  const part = (100 * (after - before)) / Math.abs(before);
  return `${sign(part)}${Math.abs(part).toFixed(1)} %`;
}

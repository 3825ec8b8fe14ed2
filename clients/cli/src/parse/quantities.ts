import { InvalidArgumentError } from "commander";

// Parsers of option values. Each takes the text as typed and throws InvalidArgumentError, which
// commander shows with the option's name.

const DURATION_UNITS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const MEMORY_UNITS: Record<string, number> = {
  "": 1,
  mi: 1,
  mib: 1,
  gi: 1024,
  gib: 1024,
  ti: 1_048_576,
  tib: 1_048_576,
};

/** `90s`, `10m`, `1h30m`, `2d` or plain seconds, in milliseconds. */
export function durationMs(text: string): number {
  const trimmed = text.trim().toLowerCase();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(trimmed)) {
    throw new InvalidArgumentError("A duration is wanted, for example 90s, 10m, 1h30m or 2d.");
  }
  let total = 0;
  for (const [, amount, , unit] of trimmed.matchAll(/(\d+(\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (DURATION_UNITS[unit ?? ""] ?? Number.NaN);
  }
  return Math.round(total);
}

/** `2026-05-01T08:00:00Z` or, as a duration, so long from now; in milliseconds since the epoch. */
export function timeMs(text: string): number {
  const trimmed = text.trim();
  if (/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/i.test(trimmed)) {
    const ms = Date.parse(trimmed);
    if (!Number.isNaN(ms)) return ms;
  }
  try {
    return Date.now() + durationMs(trimmed);
  } catch {
    throw new InvalidArgumentError(
      "A time or a duration from now is wanted, for example 2026-05-01T08:00:00Z or 90m.",
    );
  }
}

/** `2026-01-31T08:00:00Z`, in milliseconds since the epoch. */
export function pastTimeMs(text: string): number {
  const ms = Date.parse(text);
  if (!Number.isNaN(ms)) return ms;
  throw new InvalidArgumentError("A time is wanted, for example 2026-01-31T08:00:00Z.");
}

/** `512` and `512Mi` (MiB), `16Gi`, `1.5GiB`, `1Ti`, in whole MiB. */
export function memoryMib(text: string): bigint {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(text.trim().toLowerCase());
  const unit = MEMORY_UNITS[match?.[2] ?? ""];
  const mib = Number(match?.[1]) * (unit ?? Number.NaN);
  if (!Number.isInteger(mib)) {
    throw new InvalidArgumentError(
      "Memory in MiB or with a binary unit is wanted, for example 512, 512Mi or 16Gi.",
    );
  }
  return BigInt(mib);
}

/** `2`, `0.5` (cores) or `500m` (thousandths of one), in thousandths of a core. */
export function cpuMillis(text: string): bigint {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(text.trim());
  const millis = Number(match?.[1]) * (match?.[2] === "m" ? 1 : 1000);
  if (!Number.isInteger(Math.round(millis * 1e6) / 1e6)) {
    throw new InvalidArgumentError("Cores are wanted, for example 2, 0.5 or 500m.");
  }
  return BigInt(Math.round(millis));
}

/** A parser of whole numbers within bounds, both included. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`A whole number from ${least} to ${most} is wanted.`);
  };
}

/** Collects `KEY=VALUE`; with `inherit`, a bare KEY takes its value from the environment. */
export function keyValue(
  inherit?: Readonly<Record<string, string | undefined>>,
): (text: string, before: Record<string, string> | undefined) => Record<string, string> {
  return (text, before = {}) => {
    const at = text.indexOf("=");
    const key = at < 0 ? text : text.slice(0, at);
    const value = at < 0 ? inherit?.[text] : text.slice(at + 1);
    if (key === "" || value === undefined) {
      throw new InvalidArgumentError(
        inherit && at < 0 && key !== ""
          ? `KEY=VALUE is wanted; ${key} is not set here either.`
          : "KEY=VALUE is wanted.",
      );
    }
    return { ...before, [key]: value };
  };
}

/** Collects an option given several times. */
export function repeated(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** `25` or `0.010833334` (USD), in nano-USD. */
export function usdNanos(text: string): bigint {
  const match = /^(\d{1,7})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) {
    throw new InvalidArgumentError("An amount in USD is wanted, for example 25 or 0.010833334.");
  }
  return BigInt(`${match[1]}${(match[2] ?? "").padEnd(9, "0")}`);
}

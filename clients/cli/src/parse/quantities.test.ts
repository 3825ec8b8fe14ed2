import { InvalidArgumentError } from "commander";
import { describe, expect, test } from "vitest";
import {
  cpuMillis,
  durationMs,
  keyValue,
  memoryMib,
  repeated,
  timeMs,
  wholeNumber,
} from "./quantities.ts";

describe("durations", () => {
  test.each([
    ["90", 90_000],
    ["1.5", 1500],
    ["250ms", 250],
    ["90s", 90_000],
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    [" 2D ", 172_800_000],
  ])("%s", (text, ms) => {
    expect(durationMs(text)).toBe(ms);
  });

  test.each(["", "m", "-5s", "5 m", "1h 30", "ten", "5y", "1e3"])("refuses %j", (text) => {
    expect(() => durationMs(text)).toThrow(InvalidArgumentError);
  });
});

describe("times", () => {
  test.each([
    ["2026-05-01T08:00:00Z", Date.UTC(2026, 4, 1, 8)],
    ["2026-05-01T08:00+02:00", Date.UTC(2026, 4, 1, 6)],
  ])("%s", (text, ms) => {
    expect(timeMs(text)).toBe(ms);
  });

  test("may be counted from now", () => {
    const before = Date.now();
    const ms = timeMs("90m");
    expect(ms - 5_400_000).toBeGreaterThanOrEqual(before);
    expect(ms - 5_400_000).toBeLessThanOrEqual(Date.now());
  });

  test.each(["", "tomorrow", "2026-05-01", "2026-13-01T08:00:00Z", "08:00"])(
    "refuses %j",
    (text) => {
      expect(() => timeMs(text)).toThrow(InvalidArgumentError);
    },
  );
});

describe("memory", () => {
  test.each([
    ["512", 512n],
    ["512Mi", 512n],
    ["16Gi", 16_384n],
    ["1.5GiB", 1536n],
    ["1Ti", 1_048_576n],
  ])("%s", (text, mib) => {
    expect(memoryMib(text)).toBe(mib);
  });

  // Decimal units are refused: 1 GB and 1 GiB differ by 7 %, and nobody can see which was meant.
  test.each(["", "16GB", "16G", "0.3Mi", "-1", "lots"])("refuses %j", (text) => {
    expect(() => memoryMib(text)).toThrow(InvalidArgumentError);
  });
});

describe("cores", () => {
  test.each([
    ["2", 2000n],
    ["0.5", 500n],
    ["500m", 500n],
    ["1.001", 1001n],
  ])("%s", (text, millis) => {
    expect(cpuMillis(text)).toBe(millis);
  });

  test.each(["", "0.0001", "0.5m", "-1", "two"])("refuses %j", (text) => {
    expect(() => cpuMillis(text)).toThrow(InvalidArgumentError);
  });
});

describe("whole numbers", () => {
  const parse = wholeNumber(-3, 3);
  test("within bounds, both included", () => {
    expect([parse("-3"), parse("0"), parse("3")]).toEqual([-3, 0, 3]);
  });
  test.each(["4", "-4", "1.0", "0x1", "", "1e0"])("refuses %j", (text) => {
    expect(() => parse(text)).toThrow("from -3 to 3");
  });
});

describe("KEY=VALUE", () => {
  test("collects, keeps later equals signs and empty values", () => {
    const parse = keyValue();
    expect(parse("b=", parse("a=1=2", undefined))).toEqual({ a: "1=2", b: "" });
  });
  test("a bare key takes its value from the environment, if that is allowed and it has one", () => {
    expect(keyValue({ HOME: "/h" })("HOME", undefined)).toEqual({ HOME: "/h" });
    expect(() => keyValue({ HOME: "/h" })("MISSING", undefined)).toThrow("MISSING is not set here");
    expect(() => keyValue()("HOME", undefined)).toThrow(InvalidArgumentError);
    expect(() => keyValue()("=x", undefined)).toThrow(InvalidArgumentError);
  });
});

test("repeated options are collected in order", () => {
  expect(repeated("b", repeated("a"))).toEqual(["a", "b"]);
});

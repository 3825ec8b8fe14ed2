import { TaskStateSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { expect, test } from "vitest";
import {
  age,
  binarySize,
  enumName,
  isoTime,
  lastPart,
  mebibytes,
  money,
  shortDuration,
} from "./values.ts";

test.each([
  [0, "0ms"],
  [850, "850ms"],
  [1000, "1s"],
  [59_999, "59s"],
  [60_000, "1m"],
  [303_000, "5m 3s"],
  [3_600_000, "1h"],
  [12_000_000, "3h 20m"],
  [86_400_000 * 9 + 3_600_000 * 4, "9d 4h"],
])("%d ms is %s", (ms, text) => {
  expect(shortDuration(ms)).toBe(text);
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1 KiB"],
  [1536, "1.5 KiB"],
  [20 * 1024 * 1024, "20 MiB"],
  [143_771n * 1024n * 1024n, "140.4 GiB"],
])("%s bytes are %s", (bytes, text) => {
  expect(binarySize(bytes)).toBe(text);
});

test("memory is given in MiB", () => {
  expect(mebibytes(81_920n)).toBe("80 GiB");
});

test("an amount is exact, to the nano-dollar and beyond the precision of a double", () => {
  expect(money({ currency: "USD", nanos: 9_007_199_254_740_993n })).toBe("9007199.254740993 USD");
  expect(money({ currency: "USD", nanos: -5n })).toBe("-0.000000005 USD");
  expect(money(undefined)).toBe("");
});

test("times", () => {
  const time = { seconds: 1_700_000_000n, nanos: 5_000_000 };
  expect(isoTime(time)).toBe("2023-11-14T22:13:20.005Z");
  expect(age(time, 1_700_000_065_005)).toBe("1m 5s");
  // A clock behind the server's must not show a negative age.
  expect(age(time, 1_600_000_000_000)).toBe("0ms");
  expect([age(undefined, 0), isoTime(undefined)]).toEqual(["", ""]);
});

test("enum values are shown without their prefix, and unknown ones of a newer server as numbers", () => {
  expect(enumName(TaskStateSchema, 5)).toBe("RUNNING");
  expect(enumName(TaskStateSchema, 99)).toBe("99");
});

test("the last part of a resource name is its id", () => {
  expect([lastPart("projects/p/tasks/task-1"), lastPart("task-1"), lastPart("")]).toEqual([
    "task-1",
    "task-1",
    "",
  ]);
});

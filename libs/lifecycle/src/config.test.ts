import { Fault } from "@fastgpu/domain/fault";
import { expect, test } from "vitest";
import { z } from "zod";
import { parseConfig } from "./config.ts";

const schemas = {
  scheduler: z.strictObject({
    leaseTtlMs: z.int().min(1_000).default(15_000),
    name: z.string().default("main"),
    port: z
      .strictObject({ host: z.string().default("127.0.0.1"), number: z.int().default(0) })
      .prefault({}),
    tags: z.array(z.string()).default([]),
  }),
  gateway: z.strictObject({ insecure: z.boolean().default(false) }),
};

function refusal(source: Parameters<typeof parseConfig>[1]): Fault {
  try {
    parseConfig(schemas, source);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("was accepted");
}

test("an empty file gives every default", () => {
  expect(parseConfig(schemas, {})).toEqual({
    scheduler: {
      leaseTtlMs: 15_000,
      name: "main",
      port: { host: "127.0.0.1", number: 0 },
      tags: [],
    },
    gateway: { insecure: false },
  });
});

test("keys may be written in camel or snake case, once", () => {
  const text = "scheduler:\n  lease_ttl_ms: 9000\n  port: {number: 5}\ngateway:\n";
  expect(parseConfig(schemas, { text }).scheduler).toMatchObject({
    leaseTtlMs: 9_000,
    port: { host: "127.0.0.1", number: 5 },
  });
  const twice = refusal({ text: "scheduler:\n  lease_ttl_ms: 9000\n  leaseTtlMs: 9000\n" });
  expect(twice.violations[0]?.field).toBe("scheduler.leaseTtlMs");
});

test("the environment wins over the file and keeps text as text", () => {
  const config = parseConfig(schemas, {
    text: "scheduler: {leaseTtlMs: 9000}",
    env: {
      FASTGPU_SCHEDULER__LEASE_TTL_MS: "7000",
      FASTGPU_SCHEDULER__NAME: "007",
      FASTGPU_SCHEDULER__PORT__NUMBER: "80",
      FASTGPU_SCHEDULER__TAGS: "[a, b]",
      FASTGPU_GATEWAY__INSECURE: "true",
      FASTGPU_DATA: "/elsewhere",
    },
  });
  expect(config.scheduler).toEqual({
    leaseTtlMs: 7_000,
    name: "007",
    port: { host: "127.0.0.1", number: 80 },
    tags: ["a", "b"],
  });
  expect(config.gateway.insecure).toBe(true);
});

test.each([
  ["scheduler: {leaseTtlM: 1}", "scheduler.leaseTtlM", "did you mean scheduler.leaseTtlMs?"],
  ["schedular: {}", "schedular", "did you mean scheduler?"],
  [
    "scheduler: {port: {nmuber: 1}}",
    "scheduler.port.nmuber",
    "did you mean scheduler.port.number?",
  ],
])("an unknown key is refused with the nearest known one: %s", (text, field, hint) => {
  const fault = refusal({ text });
  expect(fault.reason).toBe("UNKNOWN_FIELD");
  expect(fault.violations[0]?.field).toBe(field);
  expect(fault.hint).toBe(hint);
});

test("an unknown variable is refused too", () => {
  const fault = refusal({ env: { FASTGPU_SCHEDULER__LEASE_TTL: "1" } });
  expect(fault.hint).toBe("did you mean scheduler.leaseTtlMs?");
  expect(fault.message).toContain("FASTGPU_SCHEDULER__LEASE_TTL");
});

test.each([
  ["scheduler: {leaseTtlMs: soon}", "scheduler.leaseTtlMs"],
  ["scheduler: {leaseTtlMs: 10}", "scheduler.leaseTtlMs"],
  ["scheduler: 5", "scheduler"],
])("a wrong value names its field: %s", (text, field) => {
  const fault = refusal({ text });
  expect(fault.reason).toBe("INVALID_FIELD");
  expect(fault.violations[0]?.field).toBe(field);
});

test("text that is not YAML is a fault, not a crash", () => {
  expect(refusal({ text: "a: [1" }).message).toContain("not valid YAML");
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { Fault, codeOfReason, faultReasons } from "./fault.ts";
import { idTimeMs, idToUuid, newId, parseId, uuidToId } from "./ids.ts";
import { affordableMs, formatNanos, segmentAmountNanos } from "./money.ts";
import { decideRetry, defaultRetryOn, maxFreeRequeues } from "./retry.ts";
import { exitClasses, isTerminal, taskStates, taskTransitions } from "./states.ts";

const tenBytes = fc.uint8Array({ minLength: 10, maxLength: 10 });
const times = fc.integer({ min: 0, max: 2 ** 46 });

test("an id survives the way through uuid, keeps its time, and is legal as a container name", () => {
  fc.assert(
    fc.property(times, tenBytes, (nowMs, random) => {
      const id = newId("task", nowMs, random);
      expect(parseId("task", id)).toBe(id);
      expect(uuidToId("task", idToUuid(id))).toBe(id);
      expect(idTimeMs(id)).toBe(nowMs);
      expect(id).toMatch(/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/);
      expect(idToUuid(id)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
    }),
  );
});

test("ids sort by time", () => {
  fc.assert(
    fc.property(times, times, tenBytes, tenBytes, (a, b, ra, rb) => {
      fc.pre(a < b);
      expect(newId("att", a, ra) < newId("att", b, rb)).toBe(true);
    }),
  );
});

test.each([
  "task-",
  "task-xyz",
  "node-01j0000000000000000000000",
  "task-8zzzzzzzzzzzzzzzzzzzzzzzzz",
  "task-01ilou00000000000000000000",
])("%s is not a task id", (text) => {
  expect(parseId("task", text)).toBeUndefined();
});

test("any split of a segment adds up to the whole", () => {
  const price = fc.bigInt({ min: 0n, max: 10n ** 15n });
  const cuts = fc.array(fc.nat(100_000_000), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(price, cuts, (hourly, marks) => {
      const points = [0, ...marks.toSorted((x, y) => x - y)];
      const end = points.at(-1) ?? 0;
      let sum = 0n;
      for (let i = 1; i < points.length; i += 1) {
        sum += segmentAmountNanos(hourly, points[i - 1] ?? 0, points[i] ?? 0);
      }
      expect(sum).toBe(segmentAmountNanos(hourly, 0, end));
    }),
  );
});

test("what is affordable is paid for, and one millisecond more is not", () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 1_000n, max: 10n ** 13n }),
      fc.bigInt({ min: 0n, max: 10n ** 12n }),
      fc.nat(10_000_000),
      (hourly, nanos, fromMs) => {
        const ms = affordableMs(hourly, nanos, fromMs);
        expect(segmentAmountNanos(hourly, fromMs, fromMs + ms) <= nanos).toBe(true);
        expect(segmentAmountNanos(hourly, fromMs, fromMs + ms + 1) > nanos).toBe(true);
      },
    ),
  );
});

test.each([
  [0n, "0.00"],
  [1n, "0.000000001"],
  [1_500_000_000n, "1.50"],
  [-12_345_000_000n, "-12.345"],
])("%s nano-units read %s", (nanos, text) => {
  expect(formatNanos(nanos)).toBe(text);
});

test("every class has a decision, and lost nodes cost no retry", () => {
  const policy = { maxRetries: 1, retryOn: defaultRetryOn };
  for (const exitClass of exitClasses) {
    expect(decideRetry(exitClass, { retries: 0, freeRequeues: 0 }, policy).kind).toBeDefined();
  }
  expect(decideRetry("node_lost", { retries: 9, freeRequeues: 0 }, policy)).toMatchObject({
    kind: "requeue",
    costsRetry: false,
  });
  expect(decideRetry("node_lost", { retries: 0, freeRequeues: maxFreeRequeues }, policy).kind).toBe(
    "fail",
  );
  expect(decideRetry("gpu_fault", { retries: 0, freeRequeues: 0 }, policy)).toMatchObject({
    kind: "requeue",
    excludeGpu: true,
  });
  expect(decideRetry("gpu_fault", { retries: 1, freeRequeues: 0 }, policy).kind).toBe("fail");
  expect(decideRetry("user_exit", { retries: 0, freeRequeues: 0 }, policy).kind).toBe("fail");
});

test("three states are terminal, and every state leads to one", () => {
  expect(taskStates.filter(isTerminal)).toEqual(["SUCCEEDED", "FAILED", "CANCELLED"]);
  for (const state of taskStates) {
    if (!isTerminal(state)) expect(taskTransitions[state].length).toBeGreaterThan(0);
  }
});

test("each reason has one code, and a stranger becomes INTERNAL with its cause kept", () => {
  for (const reason of faultReasons) expect(new Fault(reason, "m").code).toBe(codeOfReason[reason]);
  const cause = new Error("secret");
  const fault = Fault.from(cause);
  expect([fault.reason, fault.message, fault.cause]).toEqual(["INTERNAL", "internal error", cause]);
});

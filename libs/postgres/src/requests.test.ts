import { randomUUID } from "node:crypto";
import { testDatabase } from "@fastgpu/testkit/database";
import { aTenant } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { openDatabase } from "./database.ts";
import { claimRequest, pruneRequests, REQUEST_RETENTION_MS, requestBody } from "./requests.ts";
import type { Json, RequestKey } from "./requests.ts";
import { transaction, withTenant } from "./transaction.ts";

const a: Json = { spec: { gpus: 1, labels: { x: "1" } }, args: ["a", "b"] };

test.each([
  [
    "the same, keys in another order",
    { args: ["a", "b"], spec: { labels: { x: "1" }, gpus: 1 } },
    undefined,
  ],
  ["another value", { spec: { gpus: 2, labels: { x: "1" } }, args: ["a", "b"] }, "spec.gpus"],
  ["a field more", { spec: { gpus: 1, labels: { x: "1" } }, args: ["a", "b"], zone: "z" }, "zone"],
  ["a field less", { spec: { gpus: 1, labels: {} }, args: ["a", "b"] }, "spec.labels.x"],
  ["a longer list", { spec: { gpus: 1, labels: { x: "1" } }, args: ["a", "b", "c"] }, "args[2]"],
] as const)("I2: %s", async (_name, second, field) => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pools = openDatabase({ service: "demo", urls: db.urls["demo"]!, log: quiet });
  const tenant = aTenant();
  const key: RequestKey = { ...tenant, method: "/demo/Run", requestId: randomUUID() };
  const claim = (body: Json, answer: string) =>
    transaction(pools.api, async (tx) => {
      await withTenant(tx, tenant);
      return claimRequest(tx, {
        key,
        body: requestBody(body),
        response: Buffer.from(answer),
        nowMs: 5,
      });
    });
  expect(await claim(a, "task-1")).toEqual({ kind: "new" });
  const again = await claim(second as Json, "task-2");
  if (field === undefined)
    expect(again).toEqual({ kind: "replay", response: Buffer.from("task-1") });
  else expect(again).toEqual({ kind: "conflict", field });
});

test("I2: racing requests with one id have one effect; a refused one leaves no trace", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pools = openDatabase({ service: "demo", urls: db.urls["demo"]!, log: quiet });
  const key: RequestKey = { ...aTenant(), method: "/demo/Run", requestId: randomUUID() };
  const claim = (answer: string, refuse = false) =>
    transaction(pools.core, async (tx) => {
      const outcome = await claimRequest(tx, {
        key,
        body: requestBody(a),
        response: Buffer.from(answer),
        nowMs: 5,
      });
      if (refuse) throw new Error("quota");
      return outcome;
    });
  await expect(claim("refused", true)).rejects.toThrow();
  const outcomes = await Promise.all(Array.from({ length: 12 }, (_, i) => claim(`answer ${i}`)));
  expect(outcomes.filter((outcome) => outcome.kind === "new")).toHaveLength(1);
  const answers = outcomes.flatMap((outcome) =>
    outcome.kind === "replay" ? [String(outcome.response)] : [],
  );
  expect(new Set(answers).size).toBe(1);

  expect(await pruneRequests(pools.core, { nowMs: 5 + REQUEST_RETENTION_MS, limit: 10 })).toBe(0);
  expect(await pruneRequests(pools.core, { nowMs: 6 + REQUEST_RETENTION_MS, limit: 10 })).toBe(1);
});

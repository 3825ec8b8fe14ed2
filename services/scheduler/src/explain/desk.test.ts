import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { createExplainDesk, type Asker } from "./desk.ts";

const question = {
  kind: "whatIf",
  change: { policy: undefined, added: [], drained: [], queues: [], consolidate: false },
  nowMs: 0,
  untilMs: 1,
} as const;
const asker = (org: string, signal = new AbortController().signal): Asker => ({
  org,
  signal,
  deadlineMs: undefined,
});

/** Nobody answers there: what is asked stays open for as long as these tests look. */
const coreUrl = "postgres://nobody@127.0.0.1:1/none";

test("one organisation has four questions open at most, all together sixteen; beyond, the time to wait is told", async () => {
  await using desk = createExplainDesk({ coreUrl, log: quiet });
  const open: Promise<unknown>[] = [];
  const ask = (org: string) => desk.ask(question, asker(org));
  for (const org of ["a", "b", "c", "d"]) {
    for (let n = 0; n < 4; n++) open.push(ask(org));
    if (org === "a") await expect(ask("a")).rejects.toMatchObject({ reason: "RATE_LIMITED" });
  }
  await expect(ask("e")).rejects.toMatchObject({
    ...{ reason: "RATE_LIMITED", code: "RESOURCE_EXHAUSTED", retryAfterMs: 1_000 },
  });
  // None of them has an answer; each ends with a reason, not with silence.
  const settled = await Promise.allSettled(open);
  expect(settled.map(({ status }) => status)).toEqual(Array.from(open, () => "rejected"));
});

test("a caller that goes away leaves the line at once", async () => {
  await using desk = createExplainDesk({ coreUrl, log: quiet });
  const caller = new AbortController();
  const answers = [1, 2, 3, 4].map(() => desk.ask(question, asker("a", caller.signal)));
  caller.abort(new Error("gone"));
  for (const answer of answers) await expect(answer).rejects.toThrow("gone");
  // The one that was being worked on may still be open, the others are not.
  const again = desk.ask(question, asker("a"));
  await expect(again).rejects.not.toMatchObject({ reason: "RATE_LIMITED" });
});

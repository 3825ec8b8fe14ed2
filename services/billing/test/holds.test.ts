import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { expect, test } from "vitest";
import { createHolds } from "../src/holds/create-holds.ts";
import { extendHolds } from "../src/holds/extend-holds.ts";
import { voidHolds } from "../src/holds/void-holds.ts";
import { readAccount } from "../src/store/accounts.ts";
import { listOpenHolds } from "../src/store/holds.ts";
import { applyUsage } from "../src/usage/apply-usage.ts";
import {
  aCustomer,
  aCut,
  aHoldFor,
  audit,
  money,
  openTestBilling,
  replay,
  usd,
} from "./support.ts";

const hourNanos = 360_000_000n;

test("a hold sets money aside at pinned prices, and a repeat gives the same answer", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const wish = aHoldFor(customer, { items: [{ sku: "gpu.simulated", quantity: 2 }] });
  const [outcome] = await createHolds(billing, 1n, [wish]);
  expect(outcome).toEqual({
    kind: "open",
    fundedMs: 3_600_000,
    items: [{ sku: "gpu.simulated", version: 1, quantity: 2 }],
  });
  expect(await createHolds(billing, 1n, [wish, wish])).toEqual([outcome, outcome]);
  expect(await money(billing, customer.org)).toEqual({ balance: usd, held: 2n * hourNanos });
  await audit(billing.db.core);
});

test("short money covers part of the time, or none where that is of no use", async () => {
  await using billing = await openTestBilling(hourNanos);
  const customer = await aCustomer(billing);
  const outcomes = await createHolds(billing, 1n, [
    aHoldFor(customer, { coverMs: 1_800_000 }),
    aHoldFor(customer),
    aHoldFor(customer),
    aHoldFor(customer, { items: [{ sku: "gpu.unheard-of", quantity: 1 }] }),
  ]);
  expect(outcomes.map((outcome) => outcome.kind)).toEqual([
    "open",
    "open",
    "budget_exhausted",
    "no_price",
  ]);
  expect(outcomes[1]).toMatchObject({ fundedMs: 1_800_000 });
  expect(await money(billing, customer.org)).toEqual({ balance: hourNanos, held: hourNanos });
  await audit(billing.db.core);
});

test("an extension is granted once for each number and stops at the balance", async () => {
  await using billing = await openTestBilling(hourNanos);
  const customer = await aCustomer(billing);
  const wish = aHoldFor(customer, { coverMs: 600_000 });
  const { attempt } = wish;
  await createHolds(billing, 1n, [wish]);
  const extend = (n: number, coverMs: number) =>
    extendHolds(billing, 1n, [{ attempt, n, coverMs }]);
  expect(await extend(1, 1_200_000)).toMatchObject([{ kind: "open", fundedMs: 1_200_000 }]);
  expect(await extend(1, 2_400_000)).toMatchObject([{ kind: "open", fundedMs: 1_200_000 }]);
  expect(await extend(2, 9_000_000)).toMatchObject([{ kind: "open", fundedMs: 3_600_000 }]);
  expect(await extend(3, 9_000_000)).toEqual([{ kind: "budget_exhausted", fundedMs: 3_600_000 }]);
  await voidHolds(billing, 1n, [attempt]);
  expect(await extend(4, 9_000_000)).toEqual([{ kind: "closed" }]);
  expect(await createHolds(billing, 1n, [wish])).toEqual([{ kind: "closed" }]);
  expect(await money(billing, customer.org)).toEqual({ balance: hourNanos, held: 0n });
  await audit(billing.db.core);
});

test("racing batches never hold more than the balance", async () => {
  await using billing = await openTestBilling(100n * hourNanos);
  const customers = [await aCustomer(billing), await aCustomer(billing)];
  const batches = Array.from({ length: 16 }, () =>
    Array.from({ length: 30 }, (_, i) => aHoldFor(customers[i % 2] ?? customers[0]!)),
  );
  // Every batch twice at once: a repeat must not hold twice.
  const answers = await Promise.all(
    [...batches, ...batches].map((batch) => createHolds(billing, 1n, batch)),
  );
  batches.forEach((_, i) => expect(answers[i + 16]).toEqual(answers[i]));
  const open = answers.slice(0, 16).flat();
  expect(open.filter((outcome) => outcome.kind === "open")).toHaveLength(200);
  for (const { org } of customers) {
    expect(await money(billing, org)).toEqual({
      balance: 100n * hourNanos,
      held: 100n * hourNanos,
    });
  }
  expect(await audit(billing.db.core)).toMatchObject({ openHolds: 200 });
});

test("a stale leader's writes fail, and a new one sees what the old one left", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const old = aHoldFor(customer);
  await createHolds(billing, 4n, [old]);
  const mine = aHoldFor(customer);
  await createHolds(billing, 5n, [mine]);
  await expect(createHolds(billing, 4n, [aHoldFor(customer)])).rejects.toMatchObject({
    reason: "FENCED",
  });
  await expect(
    extendHolds(billing, 4n, [{ attempt: old.attempt, n: 1, coverMs: 7_200_000 }]),
  ).rejects.toMatchObject({ reason: "FENCED" });
  await expect(voidHolds(billing, 4n, [old.attempt])).rejects.toMatchObject({ reason: "FENCED" });
  expect(await listOpenHolds(billing.db.core, 5n, undefined)).toEqual([old.attempt]);
  expect(await listOpenHolds(billing.db.core, 5n, old.attempt)).toEqual([]);
  await voidHolds(billing, 5n, [old.attempt]);
  expect(await listOpenHolds(billing.db.core, 6n, undefined)).toEqual([mine.attempt]);
  await audit(billing.db.core);
});

test("a create that arrives after its void opens nothing", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const wish = aHoldFor(customer);
  await voidHolds(billing, 1n, [wish.attempt]);
  expect(await createHolds(billing, 1n, [wish])).toEqual([{ kind: "closed" }]);
  const racing = Array.from({ length: 20 }, () => aHoldFor(customer, { coverMs: 60_000 }));
  await Promise.all(
    racing.flatMap((late) => [
      createHolds(billing, 1n, [late]),
      voidHolds(billing, 1n, [late.attempt]),
    ]),
  );
  expect(await audit(billing.db.core)).toMatchObject({ openHolds: 0 });
  expect(await money(billing, customer.org)).toEqual({ balance: usd, held: 0n });
});

test("the books replay in the ledger model after any mix of holds, extensions, charges and voids", async () => {
  await using billing = await openTestBilling(3n * hourNanos);
  let seed = 7;
  const dice = (sides: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % sides;
  };
  const customers = [await aCustomer(billing), await aCustomer(billing), await aCustomer(billing)];
  const live = new Map<
    string,
    { wish: ReturnType<typeof aHoldFor>; seq: number; atMs: number; n: number }
  >();
  for (let step = 0; step < 150; step += 1) {
    const running = [...live.values()];
    const one = running[dice(Math.max(1, running.length))];
    if (one === undefined || dice(4) === 0) {
      const wish = aHoldFor(customers[dice(3)] ?? customers[0]!, {
        coverMs: 60_000 + dice(3_000_000),
      });
      const [outcome] = await createHolds(billing, 1n, [wish]);
      if (outcome?.kind === "open") live.set(wish.attempt, { wish, seq: 1, atMs: 0, n: 1 });
      continue;
    }
    const { attempt, org, project, task } = one.wish;
    if (dice(5) === 0) {
      await extendHolds(billing, 1n, [{ attempt, n: one.n, coverMs: one.atMs + dice(5_000_000) }]);
      one.n += 1;
    } else if (one.atMs === 0 && dice(6) === 0) {
      await voidHolds(billing, 1n, [attempt]);
      live.delete(attempt);
    } else {
      const toMs = one.atMs + dice(900_000);
      const final = dice(4) === 0;
      const cut = aCut({ org, project, task }, attempt, {
        seq: one.seq,
        fromMs: one.atMs,
        toMs,
        final,
      });
      await transaction(billing.db.core, (tx) => applyUsage(tx, billing, [cut]));
      Object.assign(one, { seq: one.seq + 1, atMs: toMs });
      if (final) live.delete(attempt);
    }
  }
  const figures = await audit(billing.db.core);
  expect(figures.transfers).toBeGreaterThan(100);
  expect(figures.lossNanos).toBeGreaterThan(0n);
  const model = await replay(billing.db.core);
  for (const { org } of customers) {
    const { balance, held } = await money(billing, org);
    const account = await readAccount(billing.db.core, org);
    const totals = model.accounts.get(account?.id ?? "")?.totals;
    expect(totals?.debitsPendingNanos).toBe(held);
    expect((totals?.creditsPostedNanos ?? 0n) - (totals?.debitsPostedNanos ?? 0n)).toBe(balance);
  }
});

test("rows of the ledger can be neither changed nor removed, nor credit overdrawn behind our back", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  await createHolds(billing, 1n, [aHoldFor(customer)]);
  for (const text of [
    "UPDATE transfers SET amount = 1",
    "DELETE FROM transfers",
    "TRUNCATE transfers",
    "UPDATE prices SET hourly_nanos = 0",
    "DELETE FROM usage_records",
    "UPDATE accounts SET debits_posted = debits_posted + 10000000000 WHERE kind = 'org_credit'",
  ]) {
    const attempt = billing.db.core.query(statement(`test ${text}`.slice(0, 60), text));
    await expect(attempt).rejects.toThrow(/permission denied|accounts_funded/);
  }
  const unseen = await billing.db.api.query(statement("test_unseen", "SELECT * FROM holds"));
  expect(unseen).toEqual([]);
});

test("what a task may cost bounds all its attempts together, held or charged, whatever the account has", async () => {
  await using billing = await openTestBilling(100n * usd);
  const customer = await aCustomer(billing);
  // An hour and a half of one GPU.
  const maxCostNanos = (hourNanos * 3n) / 2n;
  const first = aHoldFor(customer, { maxCostNanos, coverMs: 1_800_000 });
  const second = aHoldFor(customer, { maxCostNanos });
  const third = aHoldFor(customer, { maxCostNanos });
  expect(await createHolds(billing, 1n, [first, second, third])).toMatchObject([
    { kind: "open", fundedMs: 1_800_000 },
    { kind: "open", fundedMs: 3_600_000 },
    { kind: "max_cost_reached", leftNanos: 0n, final: false },
  ]);
  // Another task of the same tenant is not touched by it.
  const other = aHoldFor({ ...customer, task: (await aCustomer(billing)).task });
  expect(await createHolds(billing, 1n, [other])).toMatchObject([{ kind: "open" }]);
  const extend = (n: number) =>
    extendHolds(billing, 1n, [{ attempt: first.attempt, n, coverMs: 7_200_000 }]);
  expect(await extend(1)).toEqual([{ kind: "budget_exhausted", fundedMs: 1_800_000 }]);
  // What the second attempt gives back, the first may use, and no more.
  await voidHolds(billing, 1n, [second.attempt]);
  expect(await extend(1)).toMatchObject([{ kind: "open", fundedMs: 5_400_000 }]);
  expect(await extend(2)).toEqual([{ kind: "budget_exhausted", fundedMs: 5_400_000 }]);
  // Once none of its holds is open, what is missing will never be there.
  await voidHolds(billing, 1n, [first.attempt]);
  const tooLittle = { maxCostNanos: 1n };
  expect(await createHolds(billing, 1n, [aHoldFor(customer, tooLittle)])).toMatchObject([
    { kind: "max_cost_reached", leftNanos: 1n, final: true },
  ]);
  await audit(billing.db.core);
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { availableNanos, balanceNanos } from "./account.ts";
import { coverNanos } from "./cover.ts";
import type { Hold, HoldStep } from "./hold.ts";
import { chargeHold, createHold, extendHold, maxCoverMs, missingHold, voidHold } from "./hold.ts";
import { applyTransfer, emptyLedger, openAccount, trialBalance } from "./ledger.ts";
import type { Ledger } from "./ledger.ts";
import { rateSegment } from "./rate.ts";

const usd = (n: number): bigint => BigInt(n) * 1_000_000_000n;

function bank(credit: bigint) {
  const ledger = emptyLedger();
  openAccount(ledger, "grants", { kind: "grants", currency: "USD" });
  openAccount(ledger, "revenue", { kind: "platform_revenue", currency: "USD" });
  openAccount(ledger, "loss", { kind: "platform_loss", currency: "USD" });
  openAccount(ledger, "org", { kind: "org_credit", currency: "USD" });
  let count = 0;
  const nextId = (): string => `t${(count += 1)}`;
  if (credit > 0n) {
    const accounts = { debit: "grants", credit: "org", amountNanos: credit };
    applyTransfer(ledger, { kind: "posted", id: nextId(), code: "grant", ...accounts });
  }
  return { ledger, nextId };
}

function available(ledger: Ledger): bigint {
  const org = ledger.accounts.get("org");
  return org === undefined ? 0n : availableNanos(org.totals);
}

function commit(ledger: Ledger, step: HoldStep): Hold {
  for (const transfer of step.transfers) expect(applyTransfer(ledger, transfer)).toBe("applied");
  return step.hold;
}

const oneGpu = [{ hourlyNanos: usd(1), quantity: 1 }];
const terms = { debit: "org", credit: "revenue", items: oneGpu };

test("a hold takes what there is, and nothing where that is of no use", () => {
  const { ledger, nextId } = bank(usd(1));
  const ask = { ...terms, nextId, minCoverMs: 60_000 };
  const half = createHold({ ...ask, coverMs: 1_800_000, availableNanos: available(ledger) });
  if (half === "budget_exhausted") throw new Error("half an hour is affordable");
  expect(commit(ledger, half)).toMatchObject({ fundedMs: 1_800_000, heldNanos: usd(1) / 2n });
  const rest = createHold({ ...ask, coverMs: 3_600_000, availableNanos: available(ledger) });
  if (rest === "budget_exhausted") throw new Error("half an hour is left");
  expect(commit(ledger, rest)).toMatchObject({ fundedMs: 1_800_000 });
  expect(available(ledger)).toBe(0n);
  expect(createHold({ ...ask, coverMs: 3_600_000, availableNanos: 0n })).toBe("budget_exhausted");
});

test("an extension is granted once for each number, and never to a closed hold", () => {
  const { ledger, nextId } = bank(usd(1));
  const created = createHold({
    ...terms,
    nextId,
    coverMs: 60_000,
    minCoverMs: 1,
    availableNanos: available(ledger),
  });
  if (created === "budget_exhausted") throw new Error("affordable");
  let hold = commit(ledger, created);
  const extend = (n: number, coverMs: number) =>
    extendHold(hold, { n, coverMs, availableNanos: available(ledger), nextId });
  const first = extend(1, 120_000);
  if (typeof first === "string") throw new Error("affordable");
  hold = commit(ledger, first);
  expect(hold).toMatchObject({ fundedMs: 120_000, extension: 1 });
  expect(extend(1, 999_000)).toEqual({ hold, transfers: [] });
  const all = extend(2, 9_000_000);
  if (typeof all === "string") throw new Error("affordable");
  hold = commit(ledger, all);
  expect(hold.fundedMs).toBe(3_600_000);
  expect(available(ledger)).toBe(0n);
  expect(extend(3, 9_000_000)).toBe("budget_exhausted");
  hold = commit(ledger, voidHold(hold, nextId));
  expect(available(ledger)).toBe(usd(1));
  expect(extend(4, 9_000_000)).toBe("closed");
  expect(voidHold(hold, nextId).transfers).toEqual([]);
});

test("usage of an attempt without a hold is the platform's loss", () => {
  const { ledger, nextId } = bank(usd(5));
  const hold = missingHold("org", "revenue");
  const step = chargeHold(hold, { amountNanos: 7n, final: true, lossAccount: "loss", nextId });
  commit(ledger, step);
  expect(step.overrunNanos).toBe(7n);
  expect(available(ledger)).toBe(usd(5));
});

const items = fc.array(
  fc.record({
    hourlyNanos: fc.bigInt({ min: 0n, max: 20_000_000_000n }),
    quantity: fc.integer({ min: 1, max: 8 }),
  }),
  { minLength: 1, maxLength: 3 },
);

test("an attempt within its funded time is charged exactly what it used and gets the rest back", () => {
  fc.assert(
    fc.property(
      items,
      fc.bigInt({ min: 0n, max: 10n ** 14n }),
      fc.integer({ min: 1, max: 10 ** 9 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 3_600_000 }), fc.boolean()), { maxLength: 25 }),
      fc.boolean(),
      (priced, credit, coverMs, steps, overstay) => {
        const { ledger, nextId } = bank(credit);
        const created = createHold({
          ...terms,
          items: priced,
          nextId,
          coverMs,
          minCoverMs: 1,
          availableNanos: available(ledger),
        });
        if (created === "budget_exhausted") {
          expect(coverNanos(priced, 1)).toBeGreaterThan(credit);
          return;
        }
        let hold = commit(ledger, created);
        let atMs = 0;
        let used = 0n;
        let lost = 0n;
        const use = (toMs: number, final: boolean): void => {
          let amountNanos = 0n;
          for (const { hourlyNanos, quantity } of priced) {
            const span = { billingStartMs: atMs, billingEndMs: toMs };
            const rated = rateSegment("billable", span, hourlyNanos).amountNanos;
            amountNanos += rated * BigInt(quantity);
          }
          const step = chargeHold(hold, { amountNanos, final, lossAccount: "loss", nextId });
          hold = commit(ledger, step);
          used += amountNanos;
          lost += step.overrunNanos;
          atMs = toMs;
        };
        steps.forEach(([ms, extend], i) => {
          const toMs = overstay ? atMs + ms : Math.min(atMs + ms, hold.fundedMs);
          if (extend) {
            const options = { n: i + 1, coverMs: atMs + 2 * ms, nextId };
            const step = extendHold(hold, { ...options, availableNanos: available(ledger) });
            if (typeof step !== "string") hold = commit(ledger, step);
          }
          use(toMs, false);
          expect(available(ledger)).toBeGreaterThanOrEqual(0n);
          expect(hold.chargedNanos).toBeLessThanOrEqual(hold.heldNanos);
        });
        use(atMs, true);
        if (!overstay) expect(lost).toBe(0n);
        expect(used).toBe(coverNanos(priced, atMs));
        expect(hold.chargedNanos + lost).toBe(used);
        const org = ledger.accounts.get("org");
        expect(org?.totals.debitsPendingNanos).toBe(0n);
        expect(org === undefined ? 0n : balanceNanos(org.totals)).toBe(credit - hold.chargedNanos);
        const totals = [...ledger.accounts.values()].map((account) => account.totals);
        expect(trialBalance(totals)).toEqual({ pendingNanos: 0n, postedNanos: 0n });
      },
    ),
    { numRuns: 300 },
  );
});

test("no wish exceeds what the database can hold", () => {
  const step = createHold({
    ...terms,
    items: [{ hourlyNanos: 10n ** 11n, quantity: 1_024 }],
    coverMs: Number.MAX_SAFE_INTEGER,
    minCoverMs: 1,
    availableNanos: 2n ** 62n,
    nextId: () => "t",
  });
  if (step === "budget_exhausted") throw new Error("affordable");
  expect(step.hold.fundedMs).toBeLessThanOrEqual(maxCoverMs);
  expect(step.hold.heldNanos).toBeLessThan(2n ** 63n);
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { availableNanos, balanceNanos } from "./account.ts";
import type { Ledger } from "./ledger.ts";
import { applyTransfer, emptyLedger, openAccount, trialBalance } from "./ledger.ts";
import type { Transfer } from "./transfer.ts";
import { accountDeltas } from "./transfer.ts";

function bank(): Ledger {
  const ledger = emptyLedger();
  openAccount(ledger, "grants", { kind: "grants", currency: "USD" });
  openAccount(ledger, "revenue", { kind: "platform_revenue", currency: "USD" });
  openAccount(ledger, "ada", { kind: "org_credit", currency: "USD" });
  openAccount(ledger, "bob", { kind: "org_credit", currency: "USD" });
  openAccount(ledger, "euro", { kind: "org_credit", currency: "EUR" });
  return ledger;
}

const names = ["grants", "revenue", "ada", "bob", "euro", "nobody"];
const base = {
  id: fc.integer({ min: 0, max: 40 }).map((n) => `t${n}`),
  code: fc.constant("charge" as const),
  debit: fc.constantFrom(...names),
  credit: fc.constantFrom(...names),
  amountNanos: fc.bigInt({ min: -1n, max: 20n }),
};
const reference = fc.integer({ min: 0, max: 40 }).map((n) => `t${n}`);
const anyTransfer: fc.Arbitrary<Transfer> = fc.oneof(
  fc.record({ ...base, kind: fc.constant("posted" as const) }),
  fc.record({ ...base, kind: fc.constant("pending" as const) }),
  fc.record({
    ...base,
    kind: fc.constant("post" as const),
    pendingId: reference,
    pendingNanos: base.amountNanos,
  }),
  fc.record({ ...base, kind: fc.constant("void" as const), pendingId: reference }),
);

/** Some steps repeat an earlier transfer, and half of all resolutions are aimed at one that is there. */
function aim(ledger: Ledger, transfer: Transfer, hit: boolean, repeat: boolean): Transfer {
  const earlier = repeat ? ledger.transfers.values().next().value : undefined;
  if (earlier !== undefined) return earlier;
  if (!hit || (transfer.kind !== "post" && transfer.kind !== "void")) return transfer;
  const pending = [...ledger.transfers.values()].find(
    (t) => t.kind === "pending" && !ledger.resolved.has(t.id),
  );
  if (pending === undefined) return transfer;
  const to = { debit: pending.debit, credit: pending.credit, pendingId: pending.id };
  return transfer.kind === "post"
    ? { ...transfer, ...to, pendingNanos: pending.amountNanos }
    : { ...transfer, ...to, amountNanos: pending.amountNanos };
}

test("Σ is zero, nobody is overdrawn and totals are those of the rows, whatever is asked", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyTransfer, fc.boolean(), fc.nat(9)), { minLength: 1, maxLength: 80 }),
      (steps) => {
        const ledger = bank();
        for (const [wanted, hit, dice] of steps) {
          const transfer = aim(ledger, wanted, hit, dice === 0);
          const before = structuredClone([...ledger.accounts]);
          const outcome = applyTransfer(ledger, transfer);
          seen.add(outcome);
          if (outcome !== "applied") expect([...ledger.accounts]).toEqual(before);
          const totals = [...ledger.accounts.values()].map((account) => account.totals);
          expect(trialBalance(totals)).toEqual({ pendingNanos: 0n, postedNanos: 0n });
          for (const name of ["ada", "bob", "euro"]) {
            const account = ledger.accounts.get(name)?.totals;
            expect(account !== undefined && availableNanos(account) >= 0n).toBe(true);
            expect(account !== undefined && account.debitsPendingNanos >= 0n).toBe(true);
          }
        }
        const recomputed = accountDeltas(ledger.transfers.values());
        for (const [id, totals] of recomputed) {
          expect(ledger.accounts.get(id)?.totals).toEqual(totals);
        }
      },
    ),
    { numRuns: 400 },
  );
  // A generator that never reaches an outcome would prove nothing about it.
  for (const outcome of ["applied", "exists", "id_reused", "exceeds_funds", "not_pending"]) {
    expect(seen).toContain(outcome);
  }
});

test("each refusal has its name", () => {
  const ledger = bank();
  const grant: Transfer = {
    kind: "posted",
    id: "g",
    code: "grant",
    debit: "grants",
    credit: "ada",
    amountNanos: 100n,
  };
  const pending: Transfer = { ...grant, kind: "pending", id: "p", debit: "ada", credit: "revenue" };
  expect(applyTransfer(ledger, pending)).toBe("exceeds_funds");
  expect(applyTransfer(ledger, grant)).toBe("applied");
  expect(applyTransfer(ledger, grant)).toBe("exists");
  expect(applyTransfer(ledger, { ...grant, amountNanos: 1n })).toBe("id_reused");
  expect(applyTransfer(ledger, { ...grant, id: "x", credit: "grants" })).toBe("same_account");
  expect(applyTransfer(ledger, { ...grant, id: "x", credit: "euro" })).toBe("currency_mismatch");
  expect(applyTransfer(ledger, { ...grant, id: "x", credit: "nobody" })).toBe("unknown_account");
  expect(applyTransfer(ledger, { ...grant, id: "x", amountNanos: 0n })).toBe("amount_not_positive");
  expect(applyTransfer(ledger, pending)).toBe("applied");
  expect(applyTransfer(ledger, { ...pending, id: "q", amountNanos: 1n })).toBe("exceeds_funds");
  const post: Transfer = {
    ...pending,
    kind: "post",
    id: "c",
    amountNanos: 30n,
    pendingId: "p",
    pendingNanos: 100n,
  };
  expect(applyTransfer(ledger, { ...post, amountNanos: 101n })).toBe("exceeds_pending");
  expect(applyTransfer(ledger, { ...post, pendingNanos: 99n })).toBe("not_pending");
  expect(applyTransfer(ledger, post)).toBe("applied");
  expect(applyTransfer(ledger, { ...post, id: "d" })).toBe("already_resolved");
  const ada = ledger.accounts.get("ada");
  expect(ada === undefined ? undefined : balanceNanos(ada.totals)).toBe(70n);
  expect(ada === undefined ? undefined : availableNanos(ada.totals)).toBe(70n);
});

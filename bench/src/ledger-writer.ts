/**
 * The writer of the experiment `ledger`, in a process that may be killed: posts batches to the ledger, each in one
 * transaction that locks the accounts, refuses what they cannot pay and records the rest. Goes on where the last
 * commit was, and prints {asked, seconds, done} after each batch.
 */
import { availableNanos } from "@fastgpu/ledger/account";
import { currency, lockAccounts, platformAccounts } from "@fastgpu/billing/store/accounts";
import { record } from "@fastgpu/billing/store/transfers";
import type { Entry } from "@fastgpu/billing/store/transfers";
import { idToUuid } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { openBilling } from "./billing-database.ts";
import { askedAt, orgOf } from "./ledger.ts";
import type { LedgerLoad } from "./ledger.ts";

const { urls, load } = JSON.parse(process.argv[2] ?? "{}") as {
  urls: Parameters<typeof openBilling>[0];
  load: LedgerLoad;
};
const orgs = Array.from({ length: load.orgs }, (_, n) => orgOf(n));
const subjects = orgs.map(idToUuid);
const { revenue } = platformAccounts;

/** The transfer's number is in its id: a repeat collides, and the last one tells how far we are. */
function idAt(n: number): string {
  const digits = n.toString(16).padStart(12, "0");
  return `ffffffff-0000-7000-8000-${digits}`;
}

const newest = statement<{ id: string }>(
  "bench_newest",
  "SELECT id FROM transfers WHERE code = 'charge' ORDER BY id DESC LIMIT 1",
);

await using billing = await openBilling(urls, 0n);
const [row] = await billing.db.core.query(newest);
const after =
  row?.id === null || row === undefined ? 0 : Number.parseInt(row.id.slice(-12), 16) + 1;
const first = Math.ceil(after / load.batch) * load.batch;

const started = performance.now();
for (let from = first; from < load.transfers; from += load.batch) {
  await transaction(billing.db.core, async (tx) => {
    const accounts = await lockAccounts(tx, orgs, ["revenue"]);
    const payers = orgs.map((org) => {
      const account = accounts.get(org);
      if (account === undefined) throw new Error(`${org} has no account`);
      return { id: account.id, left: availableNanos(account.totals) };
    });
    const entries: Entry[] = [];
    for (let n = from; n < from + load.batch; n += 1) {
      const { org, amountNanos } = askedAt(load, n);
      const payer = payers[org];
      const subject = subjects[org];
      if (payer === undefined || subject === undefined || amountNanos > payer.left) continue;
      payer.left -= amountNanos;
      const accountsOf = { debit: payer.id, credit: revenue, amountNanos } as const;
      entries.push({
        transfer: { kind: "posted", id: idAt(n), code: "charge", ...accountsOf },
        subject,
      });
    }
    await record(tx, entries, { currency, nowMs: Date.now() });
  });
  const done = from + load.batch;
  const seconds = (performance.now() - started) / 1_000;
  process.stdout.write(`${JSON.stringify({ asked: done - first, seconds, done })}\n`);
}

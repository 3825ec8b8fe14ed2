import type { Transfer } from "@fastgpu/ledger/transfer";
import { accountDeltas } from "@fastgpu/ledger/transfer";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { nullableArray, plainArray } from "./arrays.ts";

/** A transfer with what it is about: the uuid of an attempt or an organisation. */
export interface Entry {
  readonly transfer: Transfer;
  readonly subject: string;
}

const insertTransfers = statement(
  "insert_transfers",
  `INSERT INTO transfers (id, kind, code, debit_id, credit_id, amount, currency, pending_id, subject, created_at)
   SELECT id, kind, code, debit, credit, amount, $1, pending, subject, $2
   FROM unnest($3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::uuid[], $8::bigint[], $9::uuid[], $10::uuid[])
     AS t (id, kind, code, debit, credit, amount, pending, subject)`,
);

const moveAccounts = statement<{ id: string }>(
  "move_accounts",
  `UPDATE accounts a SET
     debits_pending = a.debits_pending + d.debits_pending,
     debits_posted = a.debits_posted + d.debits_posted,
     credits_pending = a.credits_pending + d.credits_pending,
     credits_posted = a.credits_posted + d.credits_posted
   FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
     AS d (id, debits_pending, debits_posted, credits_pending, credits_posted)
   WHERE a.id = d.id
   RETURNING a.id`,
);

/**
 * Records transfers and moves their accounts, two statements however many there are. The accounts must be locked.
 * Throws when an account would be overdrawn (accounts_funded), a pending transfer was resolved before
 * (transfers_resolved_once) or an id was used before: nothing of the transaction may then be kept.
 */
export async function record(
  tx: Tx,
  entries: readonly Entry[],
  at: { currency: string; nowMs: number },
): Promise<void> {
  if (entries.length === 0) return;
  await tx.query(insertTransfers, [
    at.currency,
    new Date(at.nowMs),
    plainArray(entries.map(({ transfer }) => transfer.id)),
    plainArray(entries.map(({ transfer }) => transfer.kind)),
    plainArray(entries.map(({ transfer }) => transfer.code)),
    plainArray(entries.map(({ transfer }) => transfer.debit)),
    plainArray(entries.map(({ transfer }) => transfer.credit)),
    plainArray(entries.map(({ transfer }) => transfer.amountNanos)),
    nullableArray(
      entries.map(({ transfer }) => ("pendingId" in transfer ? transfer.pendingId : undefined)),
    ),
    plainArray(entries.map(({ subject }) => subject)),
  ]);
  const deltas = [...accountDeltas(entries.map(({ transfer }) => transfer))];
  const moved = await tx.query(moveAccounts, [
    plainArray(deltas.map(([id]) => id)),
    plainArray(deltas.map(([, delta]) => delta.debitsPendingNanos)),
    plainArray(deltas.map(([, delta]) => delta.debitsPostedNanos)),
    plainArray(deltas.map(([, delta]) => delta.creditsPendingNanos)),
    plainArray(deltas.map(([, delta]) => delta.creditsPostedNanos)),
  ]);
  if (moved.length !== deltas.length)
    throw new Error("a transfer names an account that is not there");
}

const findTransfer = statement<{ amount: bigint; credit_id: string }>(
  "find_transfer",
  "SELECT amount, credit_id FROM transfers WHERE id = $1",
);

/** Amount of a transfer, `undefined` where there is none of this id. */
export async function transferAmount(tx: Tx, id: string): Promise<bigint | undefined> {
  const [row] = await tx.query(findTransfer, [id]);
  return row?.amount;
}

import type { OrgId } from "@fastgpu/domain/ids";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { AccountTotals } from "@fastgpu/ledger/account";
import type { Querier } from "@fastgpu/postgres/pool";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { plainArray } from "./arrays.ts";

/** The one currency so far. */
export const currency = "USD";

/** The platform's own accounts, as the first migration made them. They sort before every other account. */
export const platformAccounts = {
  revenue: "00000000-0000-7000-8000-000000000001",
  loss: "00000000-0000-7000-8000-000000000002",
  grants: "00000000-0000-7000-8000-000000000004",
} as const;

/** An organisation's credit. */
export interface OrgAccount {
  readonly id: string;
  readonly org: OrgId;
  readonly totals: AccountTotals;
}

interface Row {
  id: string;
  org_id: string | null;
  debits_pending: bigint;
  debits_posted: bigint;
  credits_pending: bigint;
  credits_posted: bigint;
}

const columns = "id, org_id, debits_pending, debits_posted, credits_pending, credits_posted";

const lockAccountsOf = statement<Row>(
  "lock_accounts",
  `SELECT ${columns} FROM accounts
   WHERE (org_id = ANY ($1::uuid[]) AND kind = 'org_credit' AND currency = $2) OR id = ANY ($3::uuid[])
   ORDER BY id FOR UPDATE`,
);

/** Which platform account a batch moves besides the organisations'. */
export type PlatformAccount = keyof typeof platformAccounts;

/**
 * Locks the accounts of organisations and of the platform, all in the order of their ids: the one lock order of money.
 * Organisations without an account are missing in the answer.
 */
export async function lockAccounts(
  tx: Tx,
  orgs: Iterable<OrgId>,
  platform: readonly PlatformAccount[],
): Promise<Map<OrgId, OrgAccount>> {
  const rows = await tx.query(lockAccountsOf, [
    plainArray([...new Set(orgs)].map(idToUuid)),
    currency,
    plainArray(platform.map((name) => platformAccounts[name])),
  ]);
  const accounts = new Map<OrgId, OrgAccount>();
  for (const row of rows) {
    const account = toAccount(row);
    if (account !== undefined) accounts.set(account.org, account);
  }
  return accounts;
}

const readAccountOf = statement<Row>(
  "read_account",
  `SELECT ${columns} FROM accounts WHERE org_id = $1 AND kind = 'org_credit' AND currency = $2`,
);

/** An organisation's account as it stands, unlocked; `undefined` where there is none or it may not be seen. */
export async function readAccount(from: Querier, org: OrgId): Promise<OrgAccount | undefined> {
  const [row] = await from.query(readAccountOf, [idToUuid(org), currency]);
  return row === undefined ? undefined : toAccount(row);
}

const knownOrgs = statement<{ org_id: string }>(
  "known_orgs",
  "SELECT org_id FROM accounts WHERE org_id = ANY ($1::uuid[]) AND kind = 'org_credit' AND currency = $2",
);

/** Which of these organisations have an account. */
export async function accountsExist(from: Querier, orgs: readonly OrgId[]): Promise<Set<OrgId>> {
  const rows = await from.query(knownOrgs, [plainArray(orgs.map(idToUuid)), currency]);
  return new Set(rows.map((row) => uuidToId("org", row.org_id)));
}

const insertAccount = statement<{ id: string }>(
  "insert_account",
  `INSERT INTO accounts (id, kind, org_id, currency, opened_at) VALUES ($1, 'org_credit', $2, $3, $4)
   ON CONFLICT (org_id, kind, currency) DO NOTHING RETURNING id`,
);

/** Opens an account; false where the organisation has one. */
export async function insertOrgAccount(
  tx: Tx,
  account: { id: string; org: OrgId; nowMs: number },
): Promise<boolean> {
  const at = new Date(account.nowMs);
  const rows = await tx.query(insertAccount, [account.id, idToUuid(account.org), currency, at]);
  return rows.length === 1;
}

const claimFirst = statement<{ org_id: string }>(
  "claim_first_organization",
  `INSERT INTO first_organization (org_id) VALUES ($1) ON CONFLICT (one) DO NOTHING RETURNING org_id`,
);

/** True for the first organisation that asks, once. */
export async function isFirstOrganization(tx: Tx, org: OrgId): Promise<boolean> {
  return (await tx.query(claimFirst, [idToUuid(org)])).length === 1;
}

function toAccount(row: Row): OrgAccount | undefined {
  if (row.org_id === null) return undefined;
  return {
    id: row.id,
    org: uuidToId("org", row.org_id),
    totals: {
      debitsPendingNanos: row.debits_pending,
      debitsPostedNanos: row.debits_posted,
      creditsPendingNanos: row.credits_pending,
      creditsPostedNanos: row.credits_posted,
    },
  };
}

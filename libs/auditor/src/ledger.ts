import type { Check } from "./check.ts";

/** What each transfer adds to its accounts; the same table as `accountDeltas` of libs/ledger, in SQL. */
const effects = `
  SELECT t.debit_id, t.credit_id, t.currency,
    CASE t.kind WHEN 'pending' THEN t.amount WHEN 'post' THEN -p.amount WHEN 'void' THEN -p.amount ELSE 0 END AS pending,
    CASE t.kind WHEN 'posted' THEN t.amount WHEN 'post' THEN t.amount ELSE 0 END AS posted
  FROM billing.transfers t LEFT JOIN billing.transfers p ON p.id = t.pending_id`;

/** I9 and I10: the ledger balances, and nobody spends what he does not have. */
export const ledgerChecks: readonly Check[] = [
  {
    invariant: "I9",
    promise: "the sum over all accounts is 0 for each currency, posted and pending",
    tables: ["billing.accounts"],
    sql: `SELECT format('%s: debits %s posted %s pending, credits %s posted %s pending', currency, sum(debits_posted),
                        sum(debits_pending), sum(credits_posted), sum(credits_pending)) AS violation
          FROM billing.accounts GROUP BY currency
          HAVING sum(debits_posted) <> sum(credits_posted) OR sum(debits_pending) <> sum(credits_pending)`,
  },
  {
    invariant: "I9",
    promise: "an account's totals are the sum of its transfers",
    tables: ["billing.accounts", "billing.transfers"],
    sql: `WITH effect AS (${effects}), side AS (
            SELECT debit_id AS id, currency, pending AS dp, posted AS dd, 0::numeric AS cp, 0::numeric AS cc FROM effect
            UNION ALL SELECT credit_id, currency, 0, 0, pending, posted FROM effect
          ), total AS (
            SELECT id, currency, sum(dp) AS dp, sum(dd) AS dd, sum(cp) AS cp, sum(cc) AS cc FROM side GROUP BY id, currency
          )
          SELECT format('account %s: (%s, %s, %s, %s) in the account, (%s, %s, %s, %s) by transfers in %s',
                        coalesce(a.id, t.id), a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted,
                        t.dp, t.dd, t.cp, t.cc, coalesce(t.currency, a.currency)) AS violation
          FROM billing.accounts a FULL JOIN total t ON t.id = a.id AND t.currency = a.currency
          WHERE coalesce(a.debits_pending, -1) <> coalesce(t.dp, 0) OR coalesce(a.debits_posted, -1) <> coalesce(t.dd, 0)
             OR coalesce(a.credits_pending, -1) <> coalesce(t.cp, 0) OR coalesce(a.credits_posted, -1) <> coalesce(t.cc, 0)`,
  },
  {
    invariant: "I9",
    promise:
      "a pending transfer is posted or voided once, between the same accounts, for no more than it set aside",
    tables: ["billing.transfers"],
    sql: `SELECT format('transfer %s (%s of %s) resolves %s (%s)', t.id, t.kind, t.amount, t.pending_id,
                        coalesce(p.kind || ' of ' || p.amount, 'missing')) AS violation
          FROM (SELECT *, count(*) OVER (PARTITION BY pending_id) AS times FROM billing.transfers
                WHERE pending_id IS NOT NULL) t
          LEFT JOIN billing.transfers p ON p.id = t.pending_id
          WHERE p.kind IS DISTINCT FROM 'pending' OR t.times > 1 OR t.debit_id <> p.debit_id
             OR t.credit_id <> p.credit_id OR t.currency <> p.currency OR t.amount > p.amount
             OR (t.kind = 'void' AND t.amount <> p.amount)`,
  },
  {
    invariant: "I9",
    promise:
      "an open hold is backed by one unresolved pending transfer of what is left of it, and no other is open",
    tables: ["billing.holds", "billing.transfers"],
    sql: `WITH open_transfers AS (
            SELECT * FROM billing.transfers t WHERE kind = 'pending'
              AND NOT EXISTS (SELECT FROM billing.transfers r WHERE r.pending_id = t.id)
          )
          SELECT format('hold of attempt %s: %s, %s of %s charged; unresolved transfer %s of %s',
                        coalesce(h.attempt_id, t.subject), coalesce(h.status, 'none'), h.charged, h.held,
                        coalesce(t.id::text, 'none'), t.amount) AS violation
          FROM (SELECT * FROM billing.holds WHERE pending_id IS NOT NULL) h
          FULL JOIN open_transfers t ON t.id = h.pending_id
          WHERE h.attempt_id IS NULL OR t.id IS NULL OR t.amount <> h.held - h.charged OR h.status <> 'open'
             OR t.subject <> h.attempt_id`,
  },
  {
    invariant: "I9",
    promise: "a hold was charged what its posted transfers say",
    tables: ["billing.holds", "billing.transfers"],
    sql: `SELECT format('hold of attempt %s: charged %s, transfers %s', h.attempt_id, h.charged, coalesce(t.amount, 0))
            AS violation
          FROM billing.holds h
          LEFT JOIN (SELECT subject, sum(amount) AS amount FROM billing.transfers WHERE kind = 'post' GROUP BY subject) t
            ON t.subject = h.attempt_id
          WHERE h.charged <> coalesce(t.amount, 0)`,
  },
  {
    invariant: "I10",
    promise: "credit less holds is never below 0",
    tables: ["billing.accounts"],
    sql: `SELECT format('account %s of %s: %s left', id, org_id, credits_posted - debits_posted - debits_pending)
            AS violation
          FROM billing.accounts
          WHERE kind = 'org_credit' AND credits_posted - debits_posted - debits_pending < 0`,
  },
];

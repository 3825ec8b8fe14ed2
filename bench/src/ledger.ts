/** Transfers a second in the ledger, all through one hot account, with budgets, across a kill -9 (goal G7). */
import { newId } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { openBilling } from "./billing-database.ts";
import { countOf, flagsOf, writeRows } from "./flags.ts";
import { lastReport } from "./killed-child.ts";
import { startServiceDatabase } from "./service-database.ts";

const usage = `usage: npm run bench -- ledger [flags]

  --transfers N   transfers asked for (default 2000000)
  --batch N       transfers of a transaction (default 8000)
  --orgs N        accounts that are debited; all credit one (default 16)
  --budget PCT    part of the asked amount that the accounts can pay (default 90)
  --no-kill       do not kill the writer half-way
  --json OUT      one JSON object
`;

/** What is asked of the ledger: everything follows from these numbers. */
export interface LedgerLoad {
  readonly transfers: number;
  readonly batch: number;
  readonly orgs: number;
  readonly budgetPct: number;
}

/** The organisation of a number. */
export function orgOf(n: number): OrgId {
  const bytes = Buffer.alloc(10);
  bytes.writeUInt32BE(n + 1, 6);
  return newId("org", Date.UTC(2026, 0, 1), bytes);
}

/** The n-th transfer that is asked for, from 0: who pays, and how much. */
export function askedAt(load: LedgerLoad, n: number): { org: number; amountNanos: bigint } {
  return { org: (n * 7) % load.orgs, amountNanos: BigInt(((n * 2_654_435_761) % 1_000_000) + 1) };
}

/** Credit of each account: a part of what will be asked of it. */
export function budgets(load: LedgerLoad): bigint[] {
  const asked = Array.from({ length: load.orgs }, () => 0n);
  for (let n = 0; n < load.transfers; n += 1) {
    const { org, amountNanos } = askedAt(load, n);
    asked[org] = (asked[org] ?? 0n) + amountNanos;
  }
  return asked.map((sum) => (sum * BigInt(load.budgetPct)) / 100n);
}

const facts = statement<{
  charges: bigint;
  amount: bigint;
  sum: bigint;
  overdrawn: bigint;
  wrong: bigint;
}>(
  "bench_ledger_facts",
  `WITH moved AS (
     SELECT debit_id AS id, sum(amount) AS debit, 0 AS credit FROM transfers GROUP BY debit_id
     UNION ALL SELECT credit_id, 0, sum(amount) FROM transfers GROUP BY credit_id
   ), by_account AS (SELECT id, sum(debit) AS debit, sum(credit) AS credit FROM moved GROUP BY id)
   SELECT (SELECT count(*) FROM transfers WHERE code = 'charge') AS charges,
     (SELECT coalesce(sum(amount), 0)::bigint FROM transfers WHERE code = 'charge') AS amount,
     sum(a.debits_posted - a.credits_posted)::bigint AS sum,
     count(*) FILTER (WHERE a.kind = 'org_credit' AND a.credits_posted < a.debits_posted) AS overdrawn,
     count(*) FILTER (WHERE a.debits_posted <> coalesce(b.debit, 0) OR a.credits_posted <> coalesce(b.credit, 0)) AS wrong
   FROM accounts a LEFT JOIN by_account b USING (id)`,
);

interface Report {
  /** Transfers asked for and answered so far, by this process. */
  readonly asked: number;
  readonly seconds: number;
  /** Of all so far. */
  readonly done: number;
}

/** What must have been paid: the same decisions, made on plain numbers. */
function expected(load: LedgerLoad): { charges: bigint; amount: bigint } {
  const left = budgets(load);
  let charges = 0n;
  let amount = 0n;
  for (let n = 0; n < load.transfers; n += 1) {
    const { org, amountNanos } = askedAt(load, n);
    const has = left[org] ?? 0n;
    if (amountNanos > has) continue;
    left[org] = has - amountNanos;
    charges += 1n;
    amount += amountNanos;
  }
  return { charges, amount };
}

/** The experiment; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: { transfers: "2000000", batch: "8000", orgs: "16", budget: "90" },
    switches: ["no-kill"],
  });
  if (values === undefined) return 0;
  const batch = countOf("batch", values.batch);
  const load: LedgerLoad = {
    batch,
    transfers: Math.ceil(countOf("transfers", values.transfers) / batch) * batch,
    orgs: countOf("orgs", values.orgs),
    budgetPct: countOf("budget", values.budget),
  };
  await using database = await startServiceDatabase("billing");
  for (const [n, creditNanos] of budgets(load).entries()) {
    await using billing = await openBilling(database.urls, creditNanos);
    await transaction(billing.db.core, (tx) => billing.organizations.open(tx, orgOf(n)));
  }
  const config = { urls: database.urls, load };
  const write = (killAt: number) =>
    lastReport<Report>("ledger-writer.ts", config, ({ done }) => done >= killAt);
  const killed = values["no-kill"] ? undefined : await write(load.transfers / 2);
  const rest = await write(Number.POSITIVE_INFINITY);

  await using billing = await openBilling(database.urls, 0n);
  const [found] = await billing.db.core.query(facts);
  const wanted = expected(load);
  const exact =
    found?.charges === wanted.charges &&
    found.amount === wanted.amount &&
    found.sum === 0n &&
    found.overdrawn === 0n &&
    found.wrong === 0n;
  const perSecond = (report: Report) => Math.round(report.asked / report.seconds);
  const result = {
    experiment: "ledger",
    ...load,
    perSecond: perSecond(rest),
    perSecondUntilKill: killed === undefined ? undefined : perSecond(killed),
    posted: Number(wanted.charges),
    exact,
  };
  process.stdout.write(`transfers          ${load.transfers}, ${wanted.charges} within budgets\n`);
  if (killed !== undefined) {
    process.stdout.write(`until kill -9      ${perSecond(killed)} transfers/s\n`);
  }
  process.stdout.write(`to the end         ${perSecond(rest)} transfers/s\n`);
  process.stdout.write(`Σ = 0, exact       ${exact ? "yes" : "NO"}\n`);
  await writeRows(values.json, [result]);
  return exact ? 0 : 1;
}

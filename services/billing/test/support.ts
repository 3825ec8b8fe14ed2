import type { AttemptId, GpuId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { AccountKind, AccountTotals } from "@fastgpu/ledger/account";
import { applyTransfer, emptyLedger, openAccount, trialBalance } from "@fastgpu/ledger/ledger";
import type { Ledger } from "@fastgpu/ledger/ledger";
import { accountDeltas } from "@fastgpu/ledger/transfer";
import type { Transfer, TransferCode } from "@fastgpu/ledger/transfer";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { newEvent, topics } from "@fastgpu/events/topics";
import { openDatabase } from "@fastgpu/postgres/database";
import { appendEvents, listEvents } from "@fastgpu/postgres/outbox";
import type { EventPage, NewEvent } from "@fastgpu/postgres/outbox";
import { openPool, statement } from "@fastgpu/postgres/pool";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { manualClock } from "@fastgpu/testkit/clock";
import type { ManualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import type { TestDatabase } from "@fastgpu/testkit/database";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import type { Billing } from "../src/billing.ts";
import type { HoldRequest } from "../src/holds/create-holds.ts";
import { openOrganizations } from "../src/organizations.ts";
import { openPriceBook } from "../src/price-book.ts";
import { readAccount } from "../src/store/accounts.ts";
import type { UsageCut } from "../src/usage/rate-usage.ts";

/** Nano-units of one dollar. */
export const usd = 1_000_000_000n;

/** A billing core over its own database, without network. */
export interface TestBilling extends Billing, AsyncDisposable {
  readonly clock: ManualClock;
  readonly tracing: Tracing;
  readonly database: TestDatabase;
}

/** Opens one; new organisations start with `creditNanos`. */
export async function openTestBilling(creditNanos: bigint): Promise<TestBilling> {
  // The schema `scheduler` has only the tables of an event log here: tests play the producer.
  const migrations = { scheduler: await scratchDirectory() };
  const database = await testDatabase({ services: ["billing", "scheduler"], migrations });
  const billing = openBilling(database, creditNanos);
  await billing.prices.refresh(0);
  return {
    ...billing,
    database,
    async [Symbol.asyncDispose]() {
      await billing.db[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

/** A billing core over a database that is there already. */
export function openBilling(database: Pick<TestDatabase, "urls">, creditNanos: bigint) {
  const urls = database.urls["billing"];
  if (urls === undefined) throw new Error("billing has no schema");
  const db = openDatabase({ service: "billing", urls, log: quiet, max: { api: 2, core: 8 } });
  const clock = manualClock();
  const prices = openPriceBook({ pool: db.core, clock });
  const organizations = openOrganizations({
    pool: db.core,
    clock,
    log: quiet,
    startingCredit: { firstNanos: creditNanos, othersNanos: creditNanos },
    directory: {
      organizationOfProject: () => Promise.reject(new Error("nobody is to be asked")),
      organizationExists: () => Promise.reject(new Error("nobody is to be asked")),
    },
  });
  return {
    db,
    clock,
    log: quiet,
    prices,
    organizations,
    pageTokens: createPageTokens(new Uint8Array(32)),
    wakeRelay: () => undefined,
    tracing: passiveTracing,
  };
}

/** The scheduler's event log, played by a test. */
export interface TestProducer extends AsyncDisposable {
  readonly core: Pool;
  /** Appends events in one transaction, as the scheduler's would. */
  append(events: readonly NewEvent[]): Promise<void>;
  /** Reads the log, as `EventLog.List` does. */
  fetch(afterSeq: bigint): Promise<EventPage>;
}

/** Opens the scheduler's event log in a billing's database. */
export function openProducer(database: Pick<TestDatabase, "urls">): TestProducer {
  const url = database.urls["scheduler"]?.core ?? "";
  const core = openPool({ url, name: "scheduler", log: quiet });
  return {
    core,
    append: (events) => transaction(core, (tx) => appendEvents(tx, events)),
    fetch: (afterSeq) => listEvents(core, afterSeq, 1_000),
    [Symbol.asyncDispose]: () => core[Symbol.asyncDispose](),
  };
}

/** The event that tells of a cut. */
export function cutEvent(cut: UsageCut): NewEvent {
  const { owner, segments, final } = cut;
  const payload = {
    attempt: owner.attempt,
    task: owner.task,
    final,
    segments: segments.map((segment) => ({
      ...segment,
      kind: UsageKind.BILLABLE,
      startMs: BigInt(segment.startMs),
      endMs: BigInt(segment.endMs),
      billingStartMs: BigInt(segment.billingStartMs),
      billingEndMs: BigInt(segment.billingEndMs),
    })),
  };
  return newEvent(topics.usageCut, payload, {
    aggregate: owner.attempt,
    aggregateRevision: 1n,
    occurredMs: Date.UTC(2026, 0, 1),
    org: owner.org,
    project: owner.project,
  });
}

/** A tenant with an account, and a task of its own. */
export interface Customer {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly task: TaskId;
}

/** Opens an account as the event of a new organisation does. */
export async function aCustomer(billing: Billing): Promise<Customer> {
  const customer = { org: anId("org"), project: anId("proj"), task: anId("task") };
  await transaction(billing.db.core, (tx) => billing.organizations.open(tx, customer.org));
  return customer;
}

/** A wish for one simulated GPU (0.36 USD an hour = 0.1 million nano-USD a second) for an hour. */
export function aHoldFor(customer: Customer, wish: Partial<HoldRequest> = {}): HoldRequest {
  return {
    ...customer,
    attempt: anId("att"),
    items: [{ sku: "gpu.simulated", quantity: 1 }],
    coverMs: 3_600_000,
    minCoverMs: 60_000,
    ...wish,
  };
}

const theGpu = anId("gpu");

/** A cut of one GPU's billable time. */
export function aCut(
  customer: Customer,
  attempt: AttemptId,
  of: { gpu?: GpuId; seq: number; fromMs: number; toMs: number; final?: boolean; sku?: string },
): UsageCut {
  const start = Date.UTC(2026, 0, 1);
  return {
    owner: { ...customer, attempt },
    final: of.final ?? false,
    segments: [
      {
        member: 0,
        gpu: of.gpu ?? theGpu,
        seq: of.seq,
        kind: "billable",
        sku: of.sku ?? "gpu.simulated",
        priceVersion: 1,
        startMs: start + of.fromMs,
        endMs: start + of.toMs,
        billingStartMs: of.fromMs,
        billingEndMs: of.toMs,
        simulated: true,
      },
    ],
  };
}

/** Balance, held and available of an organisation, in nano-USD. */
export async function money(
  billing: Billing,
  org: OrgId,
): Promise<{ balance: bigint; held: bigint }> {
  const account = await readAccount(billing.db.core, org);
  if (account === undefined) throw new Error(`no account of ${org}`);
  const { creditsPostedNanos, debitsPostedNanos, debitsPendingNanos } = account.totals;
  return { balance: creditsPostedNanos - debitsPostedNanos, held: debitsPendingNanos };
}

interface TransferRow {
  id: string;
  kind: Transfer["kind"];
  code: TransferCode;
  debit_id: string;
  credit_id: string;
  amount: bigint;
  pending_id: string | null;
}

const allTransfers = statement<TransferRow>(
  "test_all_transfers",
  "SELECT id, kind, code, debit_id, credit_id, amount, pending_id FROM transfers ORDER BY ctid",
);
const allAccounts = statement<{
  id: string;
  kind: AccountKind;
  currency: string;
  debits_pending: bigint;
  debits_posted: bigint;
  credits_pending: bigint;
  credits_posted: bigint;
}>("test_all_accounts", "SELECT * FROM accounts");
const holdSums = statement<{ held: bigint; charged: bigint; open: bigint }>(
  "test_hold_sums",
  `SELECT coalesce(sum(held - charged) FILTER (WHERE status = 'open'), 0)::bigint AS held,
     coalesce(sum(charged), 0)::bigint AS charged, count(*) FILTER (WHERE status = 'open') AS open FROM holds`,
);
const usageSum = statement<{ amount: bigint }>(
  "test_usage_sum",
  "SELECT coalesce(sum(amount), 0)::bigint AS amount FROM usage_records",
);
const costSum = statement<{ charged: bigint }>(
  "test_cost_sum",
  "SELECT coalesce(sum(charged), 0)::bigint AS charged FROM task_costs",
);

/** Whole-ledger figures, for comparisons. */
export interface Audit {
  readonly transfers: number;
  readonly openHolds: number;
  readonly revenueNanos: bigint;
  readonly lossNanos: bigint;
}

/**
 * Checks that the books are right (I9, I10, I11): each account is the sum of its transfers, all accounts add up to
 * zero, no credit is overdrawn, pending money is that of the open holds, charges + losses are the rated usage, and
 * costs of tasks are the charges. Throws where not.
 */
export async function audit(pool: Pool): Promise<Audit> {
  const transfers = asTransfers(await pool.query(allTransfers));
  const accounts = await pool.query(allAccounts);
  const sums = accountDeltas(transfers);
  const all: AccountTotals[] = [];
  let held = 0n;
  let revenueNanos = 0n;
  let lossNanos = 0n;
  for (const row of accounts) {
    const totals: AccountTotals = {
      debitsPendingNanos: row.debits_pending,
      debitsPostedNanos: row.debits_posted,
      creditsPendingNanos: row.credits_pending,
      creditsPostedNanos: row.credits_posted,
    };
    all.push(totals);
    const sum = sums.get(row.id);
    const zero = Object.values(totals).every((value) => value === 0n);
    const same =
      sum === undefined
        ? zero
        : sum.debitsPendingNanos === totals.debitsPendingNanos &&
          sum.debitsPostedNanos === totals.debitsPostedNanos &&
          sum.creditsPendingNanos === totals.creditsPendingNanos &&
          sum.creditsPostedNanos === totals.creditsPostedNanos;
    if (!same) throw new Error(`account ${row.id} (${row.kind}) is not the sum of its transfers`);
    if (row.kind === "org_credit") {
      held += row.debits_pending;
      const left = row.credits_posted - row.debits_posted - row.debits_pending;
      if (left < 0n) throw new Error(`account ${row.id} is overdrawn by ${-left}`);
    }
    if (row.kind === "platform_revenue") revenueNanos = row.credits_posted;
    if (row.kind === "platform_loss") lossNanos = row.debits_posted;
  }
  const { pendingNanos, postedNanos } = trialBalance(all);
  equal("Σ of all accounts, posted", postedNanos, 0n);
  equal("Σ of all accounts, pending", pendingNanos, 0n);
  const [holds] = await pool.query(holdSums);
  equal("pending money and open holds", held, holds?.held ?? -1n);
  equal("charges and losses against revenue", (holds?.charged ?? -1n) + lossNanos, revenueNanos);
  const [usage] = await pool.query(usageSum);
  equal("rated usage against revenue", usage?.amount ?? -1n, revenueNanos);
  const [costs] = await pool.query(costSum);
  equal("costs of tasks against charges", costs?.charged ?? -1n, holds?.charged ?? -2n);
  const openHolds = Number(holds?.open ?? 0n);
  return { transfers: transfers.length, openHolds, revenueNanos, lossNanos };
}

/** Replays the database's transfers, in the order they were written, into the ledger model; each must apply. */
export async function replay(pool: Pool): Promise<Ledger> {
  const ledger = emptyLedger();
  for (const { id, kind, currency } of await pool.query(allAccounts)) {
    openAccount(ledger, id, { kind, currency });
  }
  for (const transfer of asTransfers(await pool.query(allTransfers))) {
    const outcome = applyTransfer(ledger, transfer);
    if (outcome !== "applied") throw new Error(`transfer ${transfer.id}: ${outcome}`);
  }
  return ledger;
}

function asTransfers(rows: readonly TransferRow[]): Transfer[] {
  const amounts = new Map(rows.map((row) => [row.id, row.amount]));
  return rows.map((row): Transfer => {
    const { id, code, amount: amountNanos } = row;
    const base = { id, code, debit: row.debit_id, credit: row.credit_id, amountNanos };
    const pendingId = row.pending_id ?? "";
    switch (row.kind) {
      case "posted":
      case "pending":
        return { ...base, kind: row.kind };
      case "void":
        return { ...base, kind: row.kind, pendingId };
      case "post":
        return { ...base, kind: row.kind, pendingId, pendingNanos: amounts.get(pendingId) ?? 0n };
    }
  });
}

function equal(what: string, a: bigint, b: bigint): void {
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
}

/** Usage records rated and charged a second, exactly once, across a kill -9 (goal G6). */
import { createHolds } from "@fastgpu/billing/holds/create-holds";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { newId } from "@fastgpu/domain/ids";
import type { Id, IdPrefix } from "@fastgpu/domain/ids";
import { segmentAmountNanos } from "@fastgpu/domain/money";
import { newEvent, topics } from "@fastgpu/events/topics";
import type { StoredEvent } from "@fastgpu/postgres/outbox";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { openBilling } from "./billing-database.ts";
import { countOf, flagsOf, writeRows } from "./flags.ts";
import { lastReport } from "./killed-child.ts";
import { startServiceDatabase } from "./service-database.ts";

const usage = `usage: npm run bench -- metering [flags]

  --records N     usage records (default 1000000)
  --attempts N    attempts, each with --gpus GPUs, in turn (default 2000)
  --gpus N        GPUs of an attempt: records of an event (default 8)
  --twice PCT     events that repeat segments cut before (default 0)
  --no-kill       do not kill the consumer half-way
  --json OUT      one JSON object
`;

/** Shape of the log: everything in it follows from these numbers. */
export interface MeteringLog {
  readonly attempts: number;
  readonly gpus: number;
  readonly rounds: number;
  readonly twicePct: number;
}

const CUT_MS = 60_000;
const HOURLY_NANOS = 360_000_000n;
const EPOCH_MS = Date.UTC(2026, 0, 1);

/** The same id each time, for parent and child. */
function idOf<P extends IdPrefix>(prefix: P, n: number): Id<P> {
  const bytes = Buffer.alloc(10);
  bytes.writeUInt32BE(n, 6);
  return newId(prefix, EPOCH_MS, bytes);
}

const tenant = { org: idOf("org", 1), project: idOf("proj", 1) };

/** The event at a position of the log, from 1. */
export function eventAt(log: MeteringLog, seq: number): StoredEvent {
  const attemptNumber = (seq - 1) % log.attempts;
  const turn = Math.floor((seq - 1) / log.attempts);
  const twice = turn > 0 && (seq * 7) % 100 < log.twicePct;
  const final = turn === log.rounds - 1;
  const attempt = idOf("att", attemptNumber);
  const rounds = twice ? [turn - 1, turn] : [turn];
  const segments = rounds.flatMap((round) =>
    Array.from({ length: log.gpus }, (_, g) => ({
      member: 0,
      gpu: idOf("gpu", attemptNumber * log.gpus + g),
      seq: round + 1,
      kind: UsageKind.BILLABLE,
      sku: "gpu.simulated",
      priceVersion: 1,
      startMs: BigInt(EPOCH_MS + round * CUT_MS),
      endMs: BigInt(EPOCH_MS + (round + 1) * CUT_MS),
      billingStartMs: BigInt(round * CUT_MS),
      billingEndMs: BigInt((round + 1) * CUT_MS),
      simulated: true,
    })),
  );
  const task = idOf("task", attemptNumber);
  const event = newEvent(
    topics.usageCut,
    { attempt, task, segments, final },
    { aggregate: attempt, aggregateRevision: 1n, occurredMs: EPOCH_MS, ...tenant },
  );
  return { ...event, seq: BigInt(seq) };
}

const totals = statement<{ records: bigint; amount: bigint }>(
  "bench_totals",
  "SELECT count(*) AS records, coalesce(sum(amount), 0)::bigint AS amount FROM usage_records",
);
const ledger = statement<{ kind: string; balance: bigint; pending: bigint }>(
  "bench_ledger",
  "SELECT kind, credits_posted - debits_posted AS balance, debits_pending AS pending FROM accounts",
);

interface Report {
  readonly records: number;
  readonly seconds: number;
}

/** The experiment; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: { records: "1000000", attempts: "2000", gpus: "8", twice: "0" },
    switches: ["no-kill"],
  });
  if (values === undefined) return 0;
  const attempts = countOf("attempts", values.attempts);
  const gpus = countOf("gpus", values.gpus);
  const rounds = Math.max(2, Math.ceil(countOf("records", values.records) / attempts / gpus));
  const log: MeteringLog = { attempts, gpus, rounds, twicePct: countOf("twice", values.twice, 0) };
  const records = attempts * gpus * rounds;

  await using database = await startServiceDatabase("billing");
  await using billing = await openBilling(database.urls, 10n ** 18n);
  await transaction(billing.db.core, (tx) => billing.organizations.open(tx, tenant.org));
  const wishes = Array.from({ length: attempts }, (_, n) => ({
    ...{ attempt: idOf("att", n), task: idOf("task", n), ...tenant, minCoverMs: 1 },
    ...{ items: [{ sku: "gpu.simulated", quantity: gpus }], coverMs: rounds * CUT_MS },
  }));
  const holdsStart = performance.now();
  for (let i = 0; i < attempts; i += 1_000) {
    await createHolds(billing, 1n, wishes.slice(i, i + 1_000));
  }
  const holdsPerSecond = Math.round(attempts / ((performance.now() - holdsStart) / 1_000));

  const config = { urls: database.urls, log };
  const consume = (killAt: number) =>
    lastReport<Report>("metering-consumer.ts", config, (report) => report.records >= killAt);
  const killed = values["no-kill"] ? undefined : await consume(records / 2);
  const rest = await consume(Number.POSITIVE_INFINITY);

  const [sum] = await billing.db.core.query(totals);
  const accounts = await billing.db.core.query(ledger);
  const amount = BigInt(attempts * gpus) * segmentAmountNanos(HOURLY_NANOS, 0, rounds * CUT_MS);
  const balanceOf = (kind: string) => accounts.find((row) => row.kind === kind)?.balance ?? 0n;
  const exact =
    sum?.records === BigInt(records) &&
    sum.amount === amount &&
    balanceOf("platform_revenue") === amount &&
    balanceOf("platform_loss") === 0n &&
    accounts.every((row) => row.pending === 0n) &&
    accounts.reduce((all, row) => all + row.balance, 0n) === 0n;
  const perSecond = (report: Report) => Math.round(report.records / report.seconds);
  const result = {
    experiment: "metering",
    records,
    attempts,
    gpus,
    perSecond: perSecond(rest),
    perSecondUntilKill: killed === undefined ? undefined : perSecond(killed),
    recordsAfterKill: killed === undefined ? undefined : rest.records,
    holdsPerSecond,
    exact,
  };
  process.stdout.write(`usage records      ${records} (${log.twicePct} % of events repeat some)\n`);
  if (killed !== undefined) {
    process.stdout.write(`until kill -9      ${perSecond(killed)} records/s\n`);
  }
  process.stdout.write(`to the end         ${perSecond(rest)} records/s\n`);
  process.stdout.write(`holds created      ${holdsPerSecond} holds/s\n`);
  process.stdout.write(`totals and ledger  ${exact ? "exact" : "WRONG"}\n`);
  await writeRows(values.json, [result]);
  return exact ? 0 : 1;
}

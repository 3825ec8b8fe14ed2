/**
 * Billing's consumer for the experiment `metering`, in a process that may be killed: applies the log through the inbox
 * and prints {records, seconds} after each batch. Making the events takes no part in `seconds`; reading them does.
 */
import { applySchedulerEvents } from "@fastgpu/billing/on/scheduler-events";
import { startInbox } from "@fastgpu/postgres/inbox";
import type { StoredEvent } from "@fastgpu/postgres/outbox";
import { openBilling } from "./billing-database.ts";
import { eventAt } from "./metering.ts";
import type { MeteringLog } from "./metering.ts";

const { urls, log } = JSON.parse(process.argv[2] ?? "{}") as {
  urls: Parameters<typeof openBilling>[0];
  log: MeteringLog;
};
const PAGE = 1_000;
/** Events that come again with each page, as a bus delivers them twice. */
const OVERLAP = 50;
const headSeq = log.attempts * log.rounds;

const billing = await openBilling(urls, 0n);
const stop = new AbortController();
let makingMs = 0;
let firstSeq: number | undefined;
let startedMs = 0;
const finished = Promise.withResolvers<void>();

function page(afterSeq: number): StoredEvent[] {
  const started = performance.now();
  const from = Math.max(1, afterSeq + 1 - OVERLAP);
  const length = Math.max(0, Math.min(headSeq, afterSeq + PAGE) - from + 1);
  const events = Array.from({ length }, (_, i) => eventAt(log, from + i));
  makingMs += performance.now() - started;
  return events;
}

await using _inbox = startInbox({
  ...{ producer: "scheduler", core: billing.db.core, log: billing.log, stop: stop.signal },
  apply: (tx, events) => applySchedulerEvents(tx, billing, events),
  fetch(afterSeq) {
    if (firstSeq === undefined) {
      firstSeq = Number(afterSeq);
      startedMs = performance.now();
    }
    const done = Number(afterSeq) === headSeq;
    return Promise.resolve({
      ...{ incarnation: 1, headSeq: BigInt(headSeq) },
      events: done ? [] : page(Number(afterSeq)),
    });
  },
  onApplied(lastSeq) {
    const records = (Number(lastSeq) - (firstSeq ?? 0)) * log.gpus;
    const seconds = (performance.now() - startedMs - makingMs) / 1_000;
    process.stdout.write(`${JSON.stringify({ records, seconds })}\n`);
    if (Number(lastSeq) === headSeq) finished.resolve();
  },
});
if (headSeq > 0) await finished.promise;
stop.abort();
await billing[Symbol.asyncDispose]();

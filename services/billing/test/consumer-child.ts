/**
 * Billing's consumer in a process of its own, for tests that kill it: prints `applied SEQ` after each commit.
 * Arguments: a JSON of the database's URLs, and NATS' URL and prefix.
 */
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { aborted } from "@fastgpu/lifecycle/signals";
import { quiet } from "@fastgpu/testkit/log";
import { consumeSchedulerEvents } from "../src/on/scheduler-events.ts";
import { openBilling, openProducer } from "./support.ts";

const [urls = "{}", url = "", prefix = ""] = process.argv.slice(2);
const database = JSON.parse(urls) as Parameters<typeof openBilling>[0];
const billing = openBilling(database, 0n);
await billing.prices.refresh(0);
const { signal } = new AbortController();
consumeSchedulerEvents({
  billing,
  bus: openNatsBus({ url, prefix, name: "billing", log: quiet }),
  stop: signal,
  fetch: openProducer(database).fetch,
  fillEveryMs: 200,
  onApplied: (seq) => process.stdout.write(`applied ${seq}\n`),
});
process.stdout.write("started\n");
await aborted(signal);

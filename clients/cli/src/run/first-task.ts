import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SimulatedPolicy, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  UsageKind,
  type UsageRecord,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { formatNanos } from "@fastgpu/domain/money";
import type { Api } from "../api/connect.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import type { Terminal } from "../output/terminal.ts";
import { binarySize, lastPart, money, shortDuration, timeMs } from "../output/values.ts";
import { taskFromFile } from "../spec/from-file.ts";
import { download } from "./download.ts";
import { exampleFolder } from "./example-folder.ts";
import { rawLogWriter, readLog, stateTeller, watchToEnd } from "./follow.ts";
import { progressText, stateText } from "./views.ts";

/** The bill follows the task's end by events; it is waited for this long. */
const BILL_PATIENCE_MS = 60_000;
const BILL_POLL_MS = 200;

/** What showing the first task needs. */
export interface FirstTask {
  api: Api;
  terminal: Terminal;
  signal: AbortSignal;
}

/** The first task as it ended. */
export interface ShownTask {
  task: Task;
  /** Whether its bill was complete in time. */
  billed: boolean;
}

/**
 * Runs the digits example as the first tenant's first task and shows its log live, its result and
 * its bill. Returns undefined where it was interrupted.
 */
export async function showFirstTask(options: FirstTask): Promise<ShownTask | undefined> {
  const { api, terminal, signal } = options;
  terminal.out(`\nThe first task: examples/digits learns to read handwritten digits.\n`);
  const submitted = await submitDigits(api);
  const { name } = submitted;
  terminal.out(`  task      ${lastPart(name)}\n\n`);
  const follow = { api, terminal, name, signal };
  const writer = rawLogWriter(terminal);
  const [last] = await Promise.all([
    watchToEnd(follow, stateTeller(terminal)),
    readLog({ ...follow, follow: true }, writer),
  ]);
  if (last === undefined || signal.aborted) return undefined;
  const ended = await api.tasks.getTask({ name });
  terminal.out(
    `\n  ended     ${[stateText(ended), progressText(ended)].filter(Boolean).join(", ")}\n`,
  );
  await showResult(options, ended);
  return { task: ended, billed: await showBill(options, ended) };
}

async function submitDigits(api: Api): Promise<Task> {
  const folder = exampleFolder("digits");
  if (folder === undefined) {
    throw new CliError("examples/digits is not part of this installation", {
      exitCode: exitCodes.internal,
    });
  }
  const task = taskFromFile(join(folder, "task.yaml"));
  const spec = task.spec;
  // The example runs on the very Node that runs this, wherever the worker's PATH leads.
  if (spec?.runtime.case === "process") spec.runtime.value.command[0] = process.execPath;
  if (spec !== undefined) spec.simulated = SimulatedPolicy.ALLOW;
  return await api.tasks.runTask({ parent: await api.project(), task, requestId: randomUUID() });
}

async function showResult({ api, terminal, signal }: FirstTask, task: Task): Promise<void> {
  const files = task.result?.files ?? [];
  for (const file of files) {
    const what =
      file.path === "metrics.json"
        ? `  ${accuracyOf(await textOf({ api, terminal, signal }, file))}`
        : "";
    terminal.out(`  result    ${file.path}, ${binarySize(file.sizeBytes)}${what}\n`);
  }
}

type File = NonNullable<Task["result"]>["files"][number];

async function textOf({ api, terminal, signal }: FirstTask, file: File): Promise<string> {
  const parts: Uint8Array[] = [];
  const { artifact, sizeBytes, sha256 } = file;
  await download(
    { api, terminal, signal, artifact, sizeBytes, sha256 },
    (bytes) => void parts.push(bytes),
  );
  return Buffer.concat(parts).toString("utf8");
}

function accuracyOf(metrics: string): string {
  const { accuracy, testImages } = JSON.parse(metrics) as { accuracy: number; testImages: number };
  return `test accuracy ${(100 * accuracy).toFixed(2)} % on ${testImages} images`;
}

/** Shows a line for each SKU; true once the bill is complete, with every attempt closed. */
async function showBill({ api, terminal, signal }: FirstTask, task: Task): Promise<boolean> {
  const parent = await api.project();
  const deadline = Date.now() + BILL_PATIENCE_MS;
  let cost = task.cost;
  let final = false;
  while (!final && !signal.aborted && Date.now() < deadline) {
    const [answer] = (await api.billing.batchGetTaskCosts({ parent, tasks: [task.name] })).costs;
    final = answer?.final === true;
    cost = answer?.cost ?? cost;
    if (!final) await delay(BILL_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  const { usageRecords } = await api.billing.listUsageRecords({ parent, task: task.name });
  terminal.out(`  bill      ${money(cost) || "0.00 USD"}${final ? "" : ", not final yet"}\n`);
  for (const line of billLines(usageRecords)) terminal.out(`            ${line}\n`);
  const { available } = await api.billing.getBalance({
    name: `${await api.organization()}/balance`,
  });
  terminal.out(`            ${money(available)} of credit left\n`);
  return final;
}

/** `gpu.simulated, 5s: 0.000014 USD (simulated GPU)` for each SKU, in whole segments. */
export function billLines(records: readonly UsageRecord[]): string[] {
  const bySku = new Map<
    string,
    { ms: number; nanos: bigint; currency: string; simulated: boolean }
  >();
  for (const record of records) {
    const { sku, amount, startTime, endTime, kind, simulated } = record;
    const paid = kind === UsageKind.BILLABLE || kind === UsageKind.STOPPING;
    if (!paid || startTime === undefined || endTime === undefined) continue;
    const sum = bySku.get(sku) ?? {
      ms: 0,
      nanos: 0n,
      currency: amount?.currency ?? "USD",
      simulated,
    };
    sum.ms += timeMs(endTime) - timeMs(startTime);
    sum.nanos += amount?.nanos ?? 0n;
    bySku.set(sku, sum);
  }
  return [...bySku].map(([sku, { ms, nanos, currency, simulated }]) => {
    const label = simulated ? " (simulated GPU)" : "";
    return `${sku}, ${shortDuration(ms)}: ${formatNanos(nanos)} ${currency}${label}`;
  });
}

import { toJson } from "@bufbuild/protobuf";
import {
  type ExplainTaskResponse,
  ExplainTaskResponseSchema,
  type NodeBlocker,
  type QuoteOffer,
  type QuoteTaskResponse,
  QuoteTaskResponseSchema,
  type QuotaHolder,
  type Remedy,
  type StartEstimate,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import {
  DependencyConditionSchema,
  QueueReasonSchema,
  TaskState,
  TaskStateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { formatNanos } from "@fastgpu/domain/money";
import { withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { isForPeople, printOne, type View } from "../output/print.ts";
import { type Column, renderTable } from "../output/table.ts";
import { wrapped } from "../output/text.ts";
import { enumName, isoTime, lastPart, money, shortDuration, timeMs } from "../output/values.ts";
import { taskName } from "./task-read.ts";
import { submitCommand } from "./submit-command.ts";
import { buildTask, type RunOptions } from "./task-run.ts";

/** `task explain TASK` */
export async function explainTask(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const told = await api.tasks.explainTask({ name: await taskName(api, typed) });
    await printOne(printOptions(context, options), explainView(context.nowMs()), told);
    printTables(context, options, told);
  });
}

/** `task quote …` */
export async function quoteTask(
  context: CliContext,
  options: RunOptions,
  command: string[],
): Promise<void> {
  await withApi(context, options, async (api) => {
    const built = await buildTask(api, options, command);
    const quote = await api.tasks.quoteTask(built);
    for (const remedy of quote.remedies) {
      if (remedy.command === "") remedy.command = submitCommand(context.args, remedy, built.parent);
    }
    await printOne(printOptions(context, options), quoteView(context.nowMs()), quote);
    printTables(context, options, quote);
  });
}

/** What both answers tell. */
type Told = Pick<
  ExplainTaskResponse,
  "conditions" | "blockers" | "quotas" | "remedies" | "queues" | "gang"
> & { readonly offers?: readonly QuoteOffer[] };

/** Offers, all that stands in the way, and remedies below the facts, for people. */
function printTables(context: CliContext, options: CommonOptions, told: Told): void {
  if (!isForPeople(printOptions(context, options))) return;
  const nowMs = context.nowMs();
  const { terminal } = context;
  const table = <T>(columns: readonly Column<T>[], rows: readonly T[]): void => {
    if (rows.length > 0) terminal.out(`\n${renderTable(columns, rows)}`);
  };
  table(offerColumns(nowMs), told.offers ?? []);
  table(blockerColumns, told.blockers);
  const holders = told.quotas.flatMap((quota) =>
    quota.holders.map((holder) => ({ ...holder, queue: quota.queue })),
  );
  table(holderColumns(nowMs), holders);
  if (told.remedies.length > 0) terminal.out(remedyList(told.remedies, nowMs, terminal));
}

const blockerColumns: Column<NodeBlocker>[] = [
  { header: "what nodes lack", value: (blocker) => blocker.description },
  {
    header: "nodes that lack only this",
    value: (blocker) => String(blocker.nodesOtherwiseFit),
    align: "right",
  },
];

const holderColumns = (nowMs: number): Column<QuotaHolder & { queue: string }>[] => [
  { header: "holds the limit", value: (holder) => lastPart(holder.task) },
  { header: "gpus", value: (holder) => String(holder.gpus), align: "right" },
  { header: "has ended by", value: ({ endsByTime }) => soon(endsByTime, nowMs) },
  { header: "queue", value: (holder) => holder.queue, wide: true },
];

/** Numbered, each with the command that applies it on a line of its own, ready to be copied. */
function remedyList(
  remedies: readonly Remedy[],
  nowMs: number,
  { paint, columns }: CliContext["terminal"],
): string {
  const lines = remedies.flatMap(({ description, startsByTime, command }, at) => [
    `  ${at + 1}. ${wrapped(`${description}: ${startText(startsByTime, nowMs)}`, columns, 5)}`,
    ...(command === "" ? [] : [paint.dim(`     ${command}`)]),
  ]);
  return `\n${["WHAT WOULD START IT", ...lines].map((line) => `${line}\n`).join("")}`;
}

function startText(time: StartEstimate["latestTime"], nowMs: number): string {
  if (time === undefined) return "it starts once enough of what runs has ended";
  return timeMs(time) - nowMs < 1_000
    ? "it starts now"
    : `it starts ${soon(time, nowMs)} or before`;
}

const offerColumns = (nowMs: number): Column<QuoteOffer>[] => [
  { header: "offer", value: (offer) => offer.sku },
  { header: "models", value: (offer) => offer.gpuModels.join(", ") },
  { header: "per hour", value: (offer) => money(offer.pricePerHour), align: "right" },
  { header: "at most", value: (offer) => money(offer.priceCeiling), align: "right" },
  { header: "starts by", value: ({ start }) => latestText(start, nowMs) },
];

/** `now`, or `in 2h 5m (2026-…)`; empty: not known. */
function soon(time: StartEstimate["latestTime"], nowMs: number): string {
  if (time === undefined) return "";
  const left = timeMs(time) - nowMs;
  return left < 1_000 ? "now" : `in ${shortDuration(left)} (${isoTime(time)})`;
}

const latestText = (start: StartEstimate | undefined, nowMs: number): string =>
  about(start?.latestRough, soon(start?.latestTime, nowMs));

/** A time that is not exact says so. */
const about = (rough: boolean | undefined, text: string): string =>
  rough === true && text !== "" ? `about ${text}` : text;

function startFacts(start: StartEstimate | undefined, nowMs: number): [string, string][] {
  return [
    ["expected start", about(start?.expectedRough, soon(start?.expectedTime, nowMs))],
    ["earliest start", soon(start?.earliestTime, nowMs)],
    ["latest start", latestText(start, nowMs)],
    ["start rests on", start?.basis ?? ""],
  ];
}

function explainView(nowMs: number): View<ExplainTaskResponse> {
  return {
    columns: [],
    id: (told) => lastPart(told.name),
    json: (told) => toJson(ExplainTaskResponseSchema, told),
    facts: (told) => [
      ["task", told.name],
      ["state", stateOf(told)],
      ["in short", told.summary],
      ...conditionFacts(told),
      ["in line", lineOf(told)],
      ...standingFacts(told),
      [
        "nodes",
        told.nodesTotal > 0 ? `${told.nodesFitting} of ${told.nodesTotal} would take it` : "",
      ],
      ["waits for", told.unmetDependencies.map(dependencyText).join(", ")],
      ["pause until", isoTime(told.retryPauseEndTime)],
      ["not before", isoTime(told.startAfterTime)],
      ["money", shortfallText(told)],
      ...startFacts(told.start, nowMs),
    ],
  };
}

function stateOf({ state, queueReason }: ExplainTaskResponse): string {
  const name = enumName(TaskStateSchema, state);
  return state === TaskState.QUEUED && queueReason !== 0
    ? `${name} (${enumName(QueueReasonSchema, queueReason)})`
    : name;
}

/** Where several things stand in the way, each by itself. */
function conditionFacts({ conditions }: Told): [string, string][] {
  if (conditions.length < 2) return [];
  return conditions.map(({ reason, description }, at) => [
    `${at + 1} of ${conditions.length}`,
    reason === 0 ? description : `${enumName(QueueReasonSchema, reason)}: ${description}`,
  ]);
}

/** The queues, and how far a gang fits. */
function standingFacts({ queues, gang }: Told): [string, string][] {
  return [
    ...queues.map((queue): [string, string] => [
      queue.queue.startsWith("projects/") ? "project's queue" : "organisation's",
      [
        `holds ${queue.heldGpus} GPUs`,
        queue.limitGpus === undefined ? "no limit" : `at most ${queue.limitGpus}`,
        `${queue.guaranteedGpus} guaranteed`,
        `weight ${queue.weight}`,
        `${queue.waitingTasks} in line`,
      ].join(", "),
    ]),
    [
      "gang",
      gang === undefined
        ? ""
        : `${gang.fitting} of ${gang.members} members find a place, ${gang.lacking} lack one; ` +
          `the largest that would start now has ${gang.largestNow}`,
    ],
  ];
}

const lineOf = ({
  queuePosition,
  queueLength,
}: Pick<ExplainTaskResponse, "queuePosition" | "queueLength">): string =>
  queuePosition > 0 ? `${queuePosition} of ${queueLength}` : "";

function dependencyText(unmet: ExplainTaskResponse["unmetDependencies"][number]): string {
  const condition = enumName(DependencyConditionSchema, unmet.condition).toLowerCase();
  return `${lastPart(unmet.task)} to be ${condition} (it is ${enumName(TaskStateSchema, unmet.state)})`;
}

function shortfallText({ budgetShortfall }: Pick<ExplainTaskResponse, "budgetShortfall">): string {
  if (budgetShortfall === undefined) return "";
  const { needed, available } = budgetShortfall;
  return `its hold needs ${money(needed)}, the account has ${money(available)}`;
}

/** The option that makes the ceiling hold for all attempts together. */
function bindText({ priceCeiling }: QuoteTaskResponse): string {
  return priceCeiling === undefined || priceCeiling.nanos === 0n
    ? ""
    : `--max-cost ${formatNanos(priceCeiling.nanos)}`;
}

function quoteView(nowMs: number): View<QuoteTaskResponse> {
  return {
    columns: [],
    id: (quote) => money(quote.priceCeiling),
    json: (quote) => toJson(QuoteTaskResponseSchema, quote),
    facts: (quote) => [
      ["in short", quote.summary],
      ...conditionFacts(quote),
      ["price per hour", money(quote.pricePerHour)],
      ["costs at most", money(quote.priceCeiling)],
      ["to be bound by it", bindText(quote)],
      ["nodes", `${quote.nodesFitting} of ${quote.nodesTotal} would take it`],
      ["in line", lineOf(quote)],
      ...standingFacts(quote),
      ["money", shortfallText(quote)],
      ...startFacts(quote.start, nowMs),
    ],
  };
}

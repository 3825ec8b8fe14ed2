import { toJson } from "@bufbuild/protobuf";
import {
  type ExplainTaskResponse,
  ExplainTaskResponseSchema,
  type QuoteOffer,
  type QuoteTaskResponse,
  QuoteTaskResponseSchema,
  type Remedy,
  type StartEstimate,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import {
  DependencyConditionSchema,
  QueueReasonSchema,
  TaskState,
  TaskStateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { effectiveFormat, printOne, type View } from "../output/print.ts";
import { type Column, renderTable } from "../output/table.ts";
import { enumName, isoTime, lastPart, money, shortDuration, timeMs } from "../output/values.ts";
import { taskName } from "./task-read.ts";
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
    const quote = await api.tasks.quoteTask(await buildTask(api, options, command));
    await printOne(printOptions(context, options), quoteView(context.nowMs()), quote);
    printTables(context, options, quote);
  });
}

/** Offers, blockers and remedies below the facts, for people. */
function printTables(
  context: CliContext,
  options: CommonOptions,
  told: Pick<ExplainTaskResponse, "blockers" | "remedies"> & { offers?: readonly QuoteOffer[] },
): void {
  const print = printOptions(context, options);
  const format = effectiveFormat(print);
  if (print.quiet || (format !== "table" && format !== "wide")) return;
  const nowMs = context.nowMs();
  const table = <T>(columns: readonly Column<T>[], rows: readonly T[]): void => {
    if (rows.length > 0) context.terminal.out(`\n${renderTable(columns, rows)}`);
  };
  table(offerColumns(nowMs), told.offers ?? []);
  table(
    [
      { header: "what stands in the way", value: (blocker) => blocker.description },
      {
        header: "nodes that fail only this",
        value: (blocker) => String(blocker.nodesOtherwiseFit),
        align: "right",
      },
    ],
    told.blockers,
  );
  table(remedyColumns(nowMs), told.remedies);
}

const remedyColumns = (nowMs: number): Column<Remedy>[] => [
  { header: "what would start it", value: (remedy) => remedy.description },
  { header: "starts by", value: ({ startsByTime }) => soon(startsByTime, nowMs) },
  {
    header: "field",
    value: ({ changes }) =>
      changes.map(({ fieldPath, valueJson }) => `${fieldPath} = ${valueJson}`).join(", "),
  },
];

const offerColumns = (nowMs: number): Column<QuoteOffer>[] => [
  { header: "offer", value: (offer) => offer.sku },
  { header: "models", value: (offer) => offer.gpuModels.join(", ") },
  { header: "per hour", value: (offer) => money(offer.pricePerHour), align: "right" },
  { header: "at most", value: (offer) => money(offer.priceCeiling), align: "right" },
  { header: "starts by", value: ({ start }) => soon(start?.latestTime, nowMs) },
];

/** `now`, or `in 2h 5m (2026-…)`; empty: not known. */
function soon(time: StartEstimate["latestTime"], nowMs: number): string {
  if (time === undefined) return "";
  const left = timeMs(time) - nowMs;
  return left < 1_000 ? "now" : `in ${shortDuration(left)} (${isoTime(time)})`;
}

function startFacts(start: StartEstimate | undefined, nowMs: number): [string, string][] {
  return [
    ["earliest start", soon(start?.earliestTime, nowMs)],
    ["latest start", soon(start?.latestTime, nowMs)],
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
      ["in line", lineOf(told)],
      [
        "nodes",
        told.nodesTotal > 0 ? `${told.nodesFitting} of ${told.nodesTotal} would take it` : "",
      ],
      ["waits for", told.unmetDependencies.map(dependencyText).join(", ")],
      ["pause until", isoTime(told.retryPauseEndTime)],
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

const lineOf = ({ queuePosition, queueLength }: ExplainTaskResponse): string =>
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

function quoteView(nowMs: number): View<QuoteTaskResponse> {
  return {
    columns: [],
    id: (quote) => money(quote.priceCeiling),
    json: (quote) => toJson(QuoteTaskResponseSchema, quote),
    facts: (quote) => [
      ["in short", quote.summary],
      ["price per hour", money(quote.pricePerHour)],
      ["costs at most", money(quote.priceCeiling)],
      ["nodes", `${quote.nodesFitting} of ${quote.nodesTotal} would take it`],
      ["place in line", String(quote.queuePosition)],
      ["money", shortfallText(quote)],
      ...startFacts(quote.start, nowMs),
    ],
  };
}

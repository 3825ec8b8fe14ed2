import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import {
  type Balance,
  BalanceSchema,
  type Price,
  PriceSchema,
  UsageKindSchema,
  type UsageRecord,
  UsageRecordSchema,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { withApi } from "../api/connect.ts";
import { collectPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { enumName, isoTime, lastPart, money, span } from "../output/values.ts";
import { taskName } from "./task-read.ts";

const balanceView: View<Balance> = {
  columns: [],
  id: (balance) => money(balance.available),
  json: (balance) => toJson(BalanceSchema, balance),
  facts: (balance) => [
    ["account", balance.name],
    ["balance", money(balance.balance)],
    ["held", money(balance.held)],
    ["available", money(balance.available)],
  ],
};

const usageView: View<UsageRecord> = {
  columns: [
    { header: "start", value: (record) => isoTime(record.startTime) },
    { header: "task", value: (record) => lastPart(record.task) },
    { header: "sku", value: (record) => `${record.sku}${record.simulated ? " (simulated)" : ""}` },
    { header: "kind", value: (record) => enumName(UsageKindSchema, record.kind) },
    { header: "time", value: ({ startTime, endTime }) => span(startTime, endTime), align: "right" },
    { header: "amount", value: (record) => money(record.amount), align: "right" },
    { header: "free because", value: (record) => record.freeReason },
    { header: "attempt", value: (record) => lastPart(record.attempt), wide: true },
    { header: "gpu", value: (record) => lastPart(record.gpu), wide: true },
    { header: "segment", value: (record) => String(record.seq), align: "right", wide: true },
  ],
  id: (record) => `${lastPart(record.attempt)}/${lastPart(record.gpu)}/${record.seq}`,
  json: (record) => toJson(UsageRecordSchema, record),
};

const priceView: View<Price> = {
  columns: [
    { header: "sku", value: (price) => price.sku },
    { header: "per hour", value: (price) => money(price.perHour), align: "right" },
    { header: "version", value: (price) => String(price.version), align: "right" },
    { header: "valid from", value: (price) => isoTime(price.validFrom) },
    { header: "description", value: (price) => price.description },
  ],
  id: (price) => price.sku,
  json: (price) => toJson(PriceSchema, price),
};

/** `billing balance` */
export async function showBalance(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const balance = await api.billing.getBalance({ name: `${await api.organization()}/balance` });
    await printOne(printOptions(context, options), balanceView, balance);
  });
}

/** `billing credit AMOUNT` */
export async function grantCredit(
  context: CliContext,
  options: CommonOptions,
  amountNanos: bigint,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const name = `${await api.organization()}/balance`;
    const request = { name, amountNanos, requestId: randomUUID() };
    await printOne(
      printOptions(context, options),
      balanceView,
      await api.billing.grantCredit(request),
    );
  });
}

/** `billing usage` */
export async function listUsage(
  context: CliContext,
  options: CommonOptions & { task?: string; limit: number },
): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.project();
    const task = options.task === undefined ? "" : await taskName(api, options.task);
    const { items } = await collectPages(
      options.limit,
      (page) => api.billing.listUsageRecords({ parent, task, ...page }),
      ({ usageRecords }) => usageRecords,
    );
    await printList(printOptions(context, options), usageView, items, "no usage yet");
  });
}

/** `billing prices` */
export async function listPrices(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const { prices } = await api.billing.listPrices({});
    await printList(printOptions(context, options), priceView, prices, "the price book is empty");
  });
}

import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  QuoteOfferSchema,
  QuoteTaskRequest,
  QuoteTaskResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { coverNanos } from "@fastgpu/ledger/cover";
import type { CallContext } from "@fastgpu/rpc/context";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { conditionsOf, moneyCondition, summaryOf } from "../explain/conditions.ts";
import type { ExplainDesk } from "../explain/desk.ts";
import {
  blockersToWire,
  quotasToWire,
  shortfallToWire,
  standingToWire,
  startToWire,
} from "../explain/explanation-to-wire.ts";
import {
  maxCostTooSmall,
  pricedItems,
  readFunds,
  shortfallOf,
  type Prices,
} from "../explain/funds.ts";
import { askerOf, planTaskOf } from "../explain/look.ts";
import { otherProjects } from "../explain/other-projects.ts";
import type { Kind } from "../explain/question.ts";
import { remediesToWire } from "../explain/remedies-to-wire.ts";
import type { Scheduler } from "../scheduler.ts";
import type { ParsedTask } from "../spec/task-spec.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { buildTask } from "./create-task.ts";

type Offer = MessageInitShape<typeof QuoteOfferSchema>;

/** Says when a task would start and what it can cost at most. Stores nothing. */
export async function quoteTask(
  s: Scheduler,
  desk: ExplainDesk,
  of: { request: QuoteTaskRequest; context: CallContext },
): Promise<MessageInitShape<typeof QuoteTaskResponseSchema>> {
  const { request, context } = of;
  const built = buildTask(s, { task: request.task, requestId: "" }, { context, state: "QUEUED" });
  const { task: parsed, id, org, project, user, nowMs } = built;
  const { demand, priority, preemptible, stopGraceMs, maxRuntimeMs } = parsed;
  const task = planTaskOf({
    ...{ id, org, project, user, demand, priority, preemptible },
    ...{ submittedMs: nowMs, stopGraceMs },
    more: {
      notBeforeMs: parsed.startAfterMs,
      array: arrayOf(parsed),
      maxRuntimeMs,
      replicas: parsed.replicas,
      topology: parsed.topology,
    },
  });
  const projects = await otherProjects(s, { context, spec: parsed.spec, org, project });
  const question = { kind: "quote", task, projects, name: parsed.displayName, nowMs } as const;
  const [looked, funds] = await Promise.all([
    desk.ask(question, askerOf(context, org)),
    readFunds(s, org, context),
  ]);
  const { told, gpus, rests } = looked;
  const shortfall = shortfallOf(s, { gpus, stopGraceMs, funds });
  const { prices } = funds;
  const { maxCostNanos } = parsed;
  const tooSmall = maxCostTooSmall(s, { gpus, stopGraceMs, maxCostNanos, prices });
  const offers = looked.kinds
    .map((kind) => offerOf(kind, { parsed, prices, nowMs }))
    .toSorted((a, b) => compare(a.pricePerHour?.nanos, b.pricePerHour?.nanos));
  const unmet = parsed.dependencies.length;
  const conditions = conditionsOf(told, task, {
    draft: false,
    quoted: true,
    tried: false,
    unmet,
    shortfall,
    tooSmall,
    nowMs,
  });
  return {
    feasible: told.fitsOnceFree,
    startsNow: conditions.length === 0,
    summary: summaryOf(conditions, told),
    conditions,
    start: startToWire({ ...told, rests }, nowMs, moneyCondition({ shortfall, tooSmall })),
    ...pricesOf(gpus, { offers, prices, gpuCount: demand.gpuCount }),
    offers,
    blockers: blockersToWire(told, demand),
    quotas: quotasToWire(told.quotas, project),
    nodesTotal: told.fit.nodes,
    nodesFitting: told.fit.fitting,
    queuePosition: told.queuePosition,
    queueLength: told.queueLength,
    ...standingToWire(told),
    remedies: remediesToWire(
      told,
      { org, project, task: undefined, nowMs },
      { shortfall, tooSmall },
    ),
    ...shortfallToWire(shortfall),
  };
}

function arrayOf({ array }: ParsedTask): PlanTask["array"] {
  return array === undefined ? undefined : { pending: array.count, leasesLeft: array.parallelism };
}

const longestMs = (task: ParsedTask): number => task.maxRuntimeMs + task.stopGraceMs;

/** Hourly price of what it would get, and the ceiling over all that it could get. */
function pricesOf(
  gpus: readonly StoredGpu[] | undefined,
  of: { offers: readonly Offer[]; prices: Prices; gpuCount: number },
) {
  const { currency } = of.prices;
  const items = gpus === undefined ? undefined : pricedItems(gpus, of.prices);
  const ceilings = of.offers.map((offer) => offer.priceCeiling?.nanos);
  const known = of.gpuCount === 0 || (ceilings.length > 0 && !ceilings.includes(undefined));
  const highest = ceilings.reduce<bigint>(
    (most, each) => ((each ?? 0n) > most ? (each ?? 0n) : most),
    0n,
  );
  return {
    ...(items === undefined
      ? {}
      : { pricePerHour: { currency, nanos: coverNanos(items, 3_600_000) } }),
    ...(known ? { priceCeiling: { currency, nanos: highest } } : {}),
  };
}

/** One kind of GPU with its price, and the start on it. */
function offerOf(kind: Kind, of: { parsed: ParsedTask; prices: Prices; nowMs: number }): Offer {
  const { forecast, ...rest } = kind;
  const { parsed, prices, nowMs } = of;
  const hourlyNanos = prices.hourlyNanos.get(kind.sku);
  const { currency } = prices;
  const quantity = parsed.demand.gpuCount * parsed.replicas;
  const items = hourlyNanos === undefined ? undefined : [{ hourlyNanos, quantity }];
  const ceilingMs = longestMs(parsed) * (parsed.array?.count ?? 1);
  const bounded = (nanos: bigint): bigint =>
    parsed.maxCostNanos !== undefined && parsed.maxCostNanos < nanos ? parsed.maxCostNanos : nanos;
  return {
    ...rest,
    gpuModels: [...kind.gpuModels],
    start: startToWire({ earliestMs: nowMs, forecast }, nowMs),
    ...(items === undefined
      ? {}
      : {
          pricePerHour: { currency, nanos: coverNanos(items, 3_600_000) },
          priceCeiling: { currency, nanos: bounded(coverNanos(items, ceilingMs)) },
        }),
  };
}

/** Unpriced last. */
function compare(a: bigint | undefined, b: bigint | undefined): number {
  if (a === b) return 0;
  if (a === undefined) return 1;
  return b === undefined || a < b ? -1 : 1;
}

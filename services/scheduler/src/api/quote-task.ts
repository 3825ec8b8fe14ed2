import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  QuoteOfferSchema,
  QuoteTaskRequest,
  QuoteTaskResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { coverNanos } from "@fastgpu/ledger/cover";
import { skuOf } from "@fastgpu/ledger/sku";
import type { CallContext } from "@fastgpu/rpc/context";
import { forecastStart } from "@fastgpu/scheduling/explain/forecast";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import {
  blockersToWire,
  capacityInWords,
  remediesToWire,
  shortfallToWire,
  startToWire,
} from "../explain/explanation-to-wire.ts";
import { pricedItems, readFunds, type Prices } from "../explain/funds.ts";
import {
  expectedGpus,
  lookAt,
  forecastBudget,
  planTaskOf,
  rng,
  shortfallOf,
} from "../explain/look.ts";
import type { Snapshot, Snapshots } from "../explain/snapshot.ts";
import type { Scheduler } from "../scheduler.ts";
import type { ParsedTask } from "../spec/task-spec.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { buildTask } from "./create-task.ts";

type Offer = MessageInitShape<typeof QuoteOfferSchema>;

/** Says when a task would start and what it can cost at most. Stores nothing. */
export async function quoteTask(
  s: Scheduler,
  snapshots: Snapshots,
  of: { request: QuoteTaskRequest; context: CallContext },
): Promise<MessageInitShape<typeof QuoteTaskResponseSchema>> {
  const { request, context } = of;
  const built = buildTask(s, { task: request.task, requestId: "" }, { context, state: "QUEUED" });
  const [snapshot, funds] = await Promise.all([snapshots.read(), readFunds(s, built.org, context)]);
  const { task: parsed, id, org, project, nowMs } = built;
  const { demand, priority, stopGraceMs } = parsed;
  const task = planTaskOf({
    ...{ id, org, project, demand, priority, submittedMs: nowMs, stopGraceMs },
    more: { array: arrayOf(parsed) },
  });
  const told = lookAt(snapshot, task, { nowMs, maxRunMs: longestMs(parsed) });
  const gpus = expectedGpus(told, snapshot);
  const shortfall = shortfallOf(s, { gpus, stopGraceMs, funds });
  const offers = offersOf({
    snapshot,
    task,
    parsed,
    prices: funds.prices,
    nowMs,
    goOn: forecastBudget(),
  });
  const condition =
    shortfall === undefined ? undefined : "the organisation's account cannot cover its hold";
  const dependent = parsed.dependencies.length > 0;
  return {
    feasible: told.fitsOnceFree,
    startsNow:
      told.forecast.kind === "starts" && told.forecast.atMs <= nowMs && !shortfall && !dependent,
    summary: [
      ...(condition === undefined ? [] : ["The organisation's account cannot cover its hold."]),
      ...(dependent ? ["Counted from the moment at which what it depends on has ended."] : []),
      capacityInWords(told, demand, nowMs),
    ].join(" "),
    start: startToWire(told, nowMs, condition),
    ...pricesOf(gpus, { offers, prices: funds.prices, gpuCount: demand.gpuCount }),
    offers,
    blockers: blockersToWire(told, demand),
    nodesTotal: told.fit.nodes,
    nodesFitting: told.fit.fitting,
    queuePosition: told.queuePosition,
    remedies: remediesToWire(told, nowMs, shortfall),
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

/** One offer for each kind of GPU in the fleet that will do. */
function offersOf(of: {
  snapshot: Snapshot;
  task: PlanTask;
  parsed: ParsedTask;
  prices: Prices;
  nowMs: number;
  goOn: () => boolean;
}): Offer[] {
  const { demand } = of.task;
  if (demand.gpuCount === 0) return [];
  const willDo = [...of.snapshot.gpus.values()].filter(
    (gpu) =>
      gpu.present &&
      (demand.gpuModels.length === 0 || demand.gpuModels.includes(gpu.model)) &&
      gpu.memoryMib >= demand.gpuMinMemoryMib &&
      (demand.simulatedOk || !gpu.simulated),
  );
  return [...Map.groupBy(willDo, skuOf)]
    .flatMap(([sku, gpus]) => offerOf(of, sku, gpus) ?? [])
    .toSorted((a, b) => compare(a.pricePerHour?.nanos, b.pricePerHour?.nanos));
}

function offerOf(
  of: Parameters<typeof offersOf>[0],
  sku: string,
  gpus: readonly StoredGpu[],
): Offer | undefined {
  const { snapshot, task, parsed, prices, nowMs } = of;
  const simulated = gpus[0]?.simulated ?? false;
  const gpuModels = [...new Set(gpus.map((gpu) => gpu.model))].toSorted();
  const narrowed = { ...task, demand: { ...task.demand, gpuModels, simulatedOk: simulated } };
  const forecast = forecastStart(
    {
      nodes: snapshot.state.nodes,
      tasks: [...snapshot.state.tasks, narrowed],
      nowMs,
      endsByMs: snapshot.endsByMs,
      maxRunMs: (id) => (id === task.id ? longestMs(parsed) : (snapshot.maxRunMs.get(id) ?? 0)),
      ...{ policy: "default", rng, goOn: of.goOn },
    },
    task.id,
  );
  // A kind of which no node ever has enough is no offer.
  if (forecast.kind === "never") return undefined;
  const hourlyNanos = prices.hourlyNanos.get(sku);
  const { currency } = prices;
  const items =
    hourlyNanos === undefined ? undefined : [{ hourlyNanos, quantity: task.demand.gpuCount }];
  const ceilingMs = longestMs(parsed) * (parsed.array?.count ?? 1);
  return {
    ...{ sku, gpuModels, simulated },
    start: startToWire({ earliestMs: nowMs, forecast }, nowMs),
    ...(items === undefined
      ? {}
      : {
          pricePerHour: { currency, nanos: coverNanos(items, 3_600_000) },
          priceCeiling: { currency, nanos: coverNanos(items, ceilingMs) },
        }),
  };
}

/** Unpriced last. */
function compare(a: bigint | undefined, b: bigint | undefined): number {
  if (a === b) return 0;
  if (a === undefined) return 1;
  return b === undefined || a < b ? -1 : 1;
}

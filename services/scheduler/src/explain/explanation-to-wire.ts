import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  BudgetShortfallSchema,
  GangFitSchema,
  NodeBlockerSchema,
  QueueStandingSchema,
  QuotaBlockSchema,
  StartEstimateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import type { ProjectId } from "@fastgpu/domain/ids";
import type { Explanation } from "@fastgpu/scheduling/explain/explain";
import { timeOf, type Forecast } from "@fastgpu/scheduling/explain/future";
import type { QueueName, QuotaBlock } from "@fastgpu/scheduling/explain/quotas";
import type { Demand } from "@fastgpu/scheduling/plan";
import { checkToWire, describeBlocker, spanInWords } from "./explain-in-words.ts";
import type { Rests } from "./question.ts";

/** A max_cost that is less than the least hold. */
export interface MaxCostTooSmall {
  readonly currency: string;
  readonly neededNanos: bigint;
  readonly maxCostNanos: bigint;
}

/** Money that is missing for the hold. */
export interface Shortfall {
  readonly currency: string;
  readonly neededNanos: bigint;
  readonly availableNanos: bigint;
}

/** The blockers on the wire. */
export function blockersToWire(
  { fit }: Explanation,
  demand: Demand,
): MessageInitShape<typeof NodeBlockerSchema>[] {
  return fit.blockers.map((blocker) => ({
    check: checkToWire(blocker.check),
    nodes: blocker.nodes,
    nodesOtherwiseFit: blocker.nodesOtherwiseFit,
    description: describeBlocker(blocker, fit.nodes, demand),
  }));
}

/** The start range, with what it rests on; `condition` must come about first. */
export function startToWire(
  of: Pick<Explanation, "earliestMs" | "forecast"> & {
    readonly expected?: Forecast | undefined;
    readonly rests?: Rests | undefined;
  },
  nowMs: number,
  condition?: string,
): MessageInitShape<typeof StartEstimateSchema> {
  const { earliestMs, forecast, expected, rests } = of;
  if (condition !== undefined) return { basis: condition };
  if (earliestMs === undefined) {
    return { basis: "it never starts as it is and as the fleet and its queues are" };
  }
  const latestMs = timeOf(forecast);
  const likelyMs = rests === undefined || expected === undefined ? undefined : timeOf(expected);
  return {
    earliestTime: timestampFromMs(earliestMs),
    ...(latestMs === undefined ? {} : { latestTime: timestampFromMs(latestMs) }),
    latestRough: forecast.kind === "about",
    ...(likelyMs === undefined
      ? {}
      : {
          expectedTime: timestampFromMs(Math.min(likelyMs, latestMs ?? Infinity)),
          expectedRough: expected?.kind === "about",
        }),
    basis: [basisOf(forecast, nowMs), ...restsInWords(expected, rests)].join("; "),
  };
}

function basisOf(forecast: Forecast, nowMs: number): string {
  switch (forecast.kind) {
    case "starts":
      if (forecast.atMs <= nowMs) return "a node has room: the next cycle starts it";
      return (
        "earliest: running work may end at any moment; latest: it and all that goes first last for their whole " +
        "max_runtime, and nothing is submitted that goes before it"
      );
    case "about":
      return (
        "earliest: running work may end at any moment; latest, roughly: when the work before it is done, all of it lasting " +
        "for its whole max_runtime, and two thirds as long again, for too many plans lie ahead to follow each"
      );
    case "never":
      return "what holds its place has no known end";
    case "unknown":
      return "something that runs or waits before it has no known end";
  }
}

function restsInWords(expected: Forecast | undefined, rests: Rests | undefined): string[] {
  if (rests === undefined || expected === undefined || timeOf(expected) === undefined) return [];
  const { runs, p50Ms, meanFactorOff } = rests;
  const off =
    meanFactorOff === undefined
      ? ""
      : `, such predictions are off by a factor of ${meanFactorOff.toFixed(1)} on average`;
  const how = expected.kind === "about" ? "expected, roughly by the work before it" : "expected";
  return [
    `${how}: by ${runs} runs like it, half of which ended within ${spanInWords(p50Ms)}${off}`,
  ];
}

/** A queue's resource name. */
export function queueResource({ org, project, user }: QueueName): string {
  if (project === undefined) return `organizations/${org}/queue`;
  return `projects/${project}${user === undefined ? "" : `/users/${user}`}/queue`;
}

/** Holders that are named at most. */
const maxHolders = 20;

/** The limits on the wire; tasks of other projects are counted, not named. */
export function quotasToWire(
  quotas: readonly QuotaBlock[],
  project: ProjectId,
): MessageInitShape<typeof QuotaBlockSchema>[] {
  return quotas.map((quota) => {
    const own = quota.holders.filter((holder) => holder.project === project);
    const sum = (of: typeof own): number => of.reduce((total, { gpus }) => total + gpus, 0);
    return {
      queue: queueResource(quota.queue),
      model: quota.model ?? "",
      limitGpus: quota.limitGpus,
      heldGpus: quota.heldGpus,
      wantedGpus: quota.wantedGpus,
      neededLimitGpus: quota.neededGpus,
      holders: own.slice(0, maxHolders).map(({ task, gpus, endsByMs }) => ({
        task: `projects/${project}/tasks/${task}`,
        gpus,
        ...(endsByMs < Infinity ? { endsByTime: timestampFromMs(endsByMs) } : {}),
      })),
      otherGpus: sum(quota.holders.filter((holder) => holder.project !== project)),
    };
  });
}

/** The gang and the queues on the wire. */
export function standingToWire({ gang, queues }: Explanation): {
  gang?: MessageInitShape<typeof GangFitSchema>;
  queues: MessageInitShape<typeof QueueStandingSchema>[];
} {
  return {
    ...(gang === undefined ? {} : { gang: { ...gang, lacking: gang.members - gang.fitting } }),
    queues: queues.map(({ queue, limitGpus, waiting, ...rest }) => ({
      queue: queueResource(queue),
      ...rest,
      waitingTasks: waiting,
      ...(limitGpus === undefined ? {} : { limitGpus }),
    })),
  };
}

/** The shortfall on the wire. */
export function shortfallToWire(shortfall: Shortfall | undefined): {
  budgetShortfall?: MessageInitShape<typeof BudgetShortfallSchema>;
} {
  if (shortfall === undefined) return {};
  const { currency, neededNanos, availableNanos } = shortfall;
  return {
    budgetShortfall: {
      needed: { currency, nanos: neededNanos },
      available: { currency, nanos: availableNanos },
    },
  };
}

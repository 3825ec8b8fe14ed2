import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WaitConditionSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { QueueReason } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { formatNanos } from "@fastgpu/domain/money";
import type { Explanation } from "@fastgpu/scheduling/explain/explain";
import type { QuotaBlock } from "@fastgpu/scheduling/explain/quotas";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { reservationName } from "../api/reservations.ts";
import { describeBlocker, gpuText, spanInWords } from "./explain-in-words.ts";
import { queueResource, type MaxCostTooSmall, type Shortfall } from "./explanation-to-wire.ts";

type Condition = MessageInitShape<typeof WaitConditionSchema>;

/** What is known of a task beside its capacity. */
export interface Around {
  readonly draft: boolean;
  /** It has been tried before: a pause is one before a retry. */
  readonly tried: boolean;
  /** Dependencies that are not met. */
  readonly unmet: number;
  /** It is asked about before it is submitted. */
  readonly quoted?: boolean;
  readonly shortfall: Shortfall | undefined;
  readonly tooSmall: MaxCostTooSmall | undefined;
  readonly nowMs: number;
}

/** All that keeps a task from starting; what must change first comes first. */
export function conditionsOf(told: Explanation, task: PlanTask, around: Around): Condition[] {
  const { draft, unmet, quoted = false, shortfall, tooSmall, nowMs } = around;
  const paused = task.notBeforeMs - nowMs;
  return [
    ...(draft
      ? [one(QueueReason.UNSPECIFIED, "It is a draft: it starts only once it is submitted.")]
      : []),
    ...(unmet > 0 ? [one(QueueReason.DEPENDENCY, dependencyText(unmet))] : []),
    ...(paused > 0 ? [pauseOf(around, paused)] : []),
    ...told.quotas.map((quota) => one(QueueReason.QUOTA_EXCEEDED, quotaText(quota))),
    ...(tooSmall === undefined
      ? []
      : [one(QueueReason.BUDGET_EXHAUSTED, tooSmallText(tooSmall, quoted))]),
    ...(shortfall === undefined
      ? []
      : [one(QueueReason.BUDGET_EXHAUSTED, shortfallText(shortfall))]),
    ...capacityOf(told, task, Math.max(nowMs, task.notBeforeMs)),
    ...reservationOf(told, task),
  ];
}

/** What is reserved for others while it might still run. Another organisation's reservation is not named. */
function reservationOf({ reservation, forecast }: Explanation, { org }: PlanTask): Condition[] {
  if (reservation === undefined || (forecast.kind === "starts" && forecast.stops.length > 0))
    return [];
  const { gpus, perNode, startMs, endMs } = reservation;
  const own = reservation.org === org;
  const name = own ? reservationName(reservation) : "";
  const whose = own ? name : "a reservation of another organisation";
  const [from, to] = [startMs, endMs].map((ms) => new Date(ms).toISOString());
  const each = perNode === undefined ? "" : `, ${perNode} on one node each,`;
  const description =
    `GPUs that it could take are reserved from ${from} to ${to}, when it might still run: ` +
    `${own ? `${gpuText(gpus)}${each} by ` : ""}${whose}.`;
  return [{ reason: QueueReason.NO_CAPACITY, description, reservation: name }];
}

const one = (reason: QueueReason, description: string): Condition => ({ reason, description });

function pauseOf({ tried }: Around, leftMs: number): Condition {
  const left = spanInWords(leftMs);
  return tried
    ? one(QueueReason.RETRY_BACKOFF, `It waits out the pause before a retry, another ${left}.`)
    : one(QueueReason.START_AFTER, `It shall not start before its start_after, in ${left}.`);
}

function dependencyText(unmet: number): string {
  return `It waits for ${unmet} other task${unmet === 1 ? "" : "s"} to end.`;
}

function quotaText(quota: QuotaBlock): string {
  const { queue, model, limitGpus, heldGpus, wantedGpus, neededGpus } = quota;
  const kind = model === undefined ? "" : ` of the model ${model}`;
  const of =
    queue.project === undefined ? "organisation" : queue.user === undefined ? "project" : "user";
  const more = wantedGpus > limitGpus ? "it could not even alone" : `it would need ${neededGpus}`;
  return (
    `The ${of}'s queue (${queueResource(queue)}) holds ${heldGpus} of at most ${gpuText(limitGpus)}${kind}: ` +
    `with ${wantedGpus} more ${more}.`
  );
}

function tooSmallText(
  { currency, neededNanos, maxCostNanos }: MaxCostTooSmall,
  quoted: boolean,
): string {
  const [needed, bound] = [formatNanos(neededNanos), formatNanos(maxCostNanos)];
  return (
    `Its max_cost of ${bound} ${currency} does not cover its first lease, which needs ${needed} ${currency}: ` +
    (quoted
      ? "a submit is refused unless a cheaper GPU would do."
      : "once there is room for it, it ends with class BUDGET.")
  );
}

function shortfallText({ currency, neededNanos, availableNanos }: Shortfall): string {
  const [needed, left] = [formatNanos(neededNanos), formatNanos(availableNanos)];
  return (
    `The organisation's account cannot cover its hold: it needs ${needed} ${currency} and has ` +
    `${left} ${currency}.`
  );
}

/** What of money must come about before capacity matters, in short. */
export function moneyCondition({
  tooSmall,
  shortfall,
}: Pick<Around, "tooSmall" | "shortfall">): string | undefined {
  if (tooSmall !== undefined) return "its max_cost does not cover its first lease";
  return shortfall && "the organisation's account cannot cover its hold";
}

/** What capacity has to do with it: nothing where the next cycle could start it. */
function capacityOf(told: Explanation, task: PlanTask, nowMs: number): Condition[] {
  const { fit, forecast, fitsOnceFree, gang, heldBack } = told;
  if (task.array?.leasesLeft === 0) {
    const text = "As many of its elements run as its parallelism allows.";
    return [one(QueueReason.NO_CAPACITY, text)];
  }
  if (fit.nodes === 0) return [one(QueueReason.NO_CAPACITY, "No worker has joined yet.")];
  if (forecast.kind === "starts" && forecast.atMs <= nowMs) return [];
  if (forecast.kind === "starts" && forecast.stops.length > 0) {
    return [
      one(QueueReason.NO_CAPACITY, "Running work of lower rank is stopped to make room for it."),
    ];
  }
  if (!fitsOnceFree) {
    const text = `No node of the fleet can run it as it is: ${whyNot(told, task)}.`;
    return [
      one(QueueReason.UNSATISFIABLE, gang === undefined ? text : gangText(told, task, "ever")),
    ];
  }
  if (gang !== undefined && gang.largestNow < gang.members) {
    return [one(QueueReason.NO_CAPACITY, gangText(told, task, "now"))];
  }
  if (fit.fitting === 0) {
    return [one(QueueReason.NO_CAPACITY, `No node has room for it now: ${whyNot(told, task)}.`)];
  }
  if (!heldBack) return [];
  const text = "There is room for it, but that is kept for what goes before it.";
  return [one(QueueReason.NO_CAPACITY, text)];
}

function whyNot({ fit }: Explanation, { demand }: PlanTask): string {
  const [first] = fit.blockers;
  if (first === undefined) return "others go first";
  const more = fit.blockers.length > 1 ? `, and ${fit.blockers.length - 1} more` : "";
  return describeBlocker(first, fit.nodes, demand) + more;
}

function gangText(told: Explanation, task: PlanTask, when: "now" | "ever"): string {
  const { members, fitting, largestNow } = told.gang ?? { members: 0, fitting: 0, largestNow: 0 };
  const lack = members - fitting;
  const head =
    when === "ever" ? "The fleet cannot take all its members" : "Not all its members fit now";
  const found =
    lack > 0
      ? `${fitting} of ${members} find a place, ${lack} lack one (${whyNot(told, task)})`
      : "each would find a place, but not so as its topology asks for";
  return `${head}: ${found}. The largest gang that would start now has ${largestNow} members.`;
}

/** What matters most, in one or two sentences. */
export function summaryOf(conditions: readonly Condition[], told: Explanation): string {
  if (conditions.length === 0) return "A node has room for it: the next cycle starts it.";
  const before = told.queuePosition - 1;
  const line = before > 0 ? ` ${before} in line before it.` : "";
  return conditions.map(({ description }) => description).join(" ") + line;
}

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  BudgetShortfallSchema,
  NodeBlockerSchema,
  RemedySchema,
  StartEstimateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { formatNanos } from "@fastgpu/domain/money";
import type { Explanation } from "@fastgpu/scheduling/explain/explain";
import type { Demand } from "@fastgpu/scheduling/plan";
import { checkToWire, describeBlocker, describeChange, fieldChanges } from "./explain-in-words.ts";

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
  { earliestMs, forecast }: Pick<Explanation, "earliestMs" | "forecast">,
  nowMs: number,
  condition?: string,
): MessageInitShape<typeof StartEstimateSchema> {
  if (condition !== undefined) return { basis: condition };
  if (earliestMs === undefined) {
    return { basis: "no node would take it as it is, even if nothing else ran" };
  }
  const earliestTime = timestampFromMs(earliestMs);
  switch (forecast.kind) {
    case "starts": {
      const basis =
        forecast.atMs <= nowMs
          ? "a node has room: the next cycle starts it"
          : "earliest: running work may end at any moment; latest: it and all that goes first last for their whole " +
            "max_runtime, and nothing more urgent is submitted";
      return { earliestTime, latestTime: timestampFromMs(forecast.atMs), basis };
    }
    case "never":
      return { earliestTime, basis: "what holds its place has no known end" };
    case "unknown":
      return { earliestTime, basis: "too much runs and waits before it for a latest time" };
  }
}

/** The remedies on the wire; where money is missing, more of it is the one that counts. */
export function remediesToWire(
  { remedies, forecast }: Explanation,
  nowMs: number,
  shortfall: Shortfall | undefined,
): MessageInitShape<typeof RemedySchema>[] {
  if (shortfall !== undefined) {
    const missing = shortfall.neededNanos - shortfall.availableNanos;
    const startsBy = forecast.kind === "starts" ? forecast.atMs : nowMs;
    return [
      {
        description: `add at least ${formatNanos(missing)} ${shortfall.currency} of credit to the organisation's account`,
        changes: [],
        startsByTime: timestampFromMs(startsBy),
      },
    ];
  }
  return remedies.map(({ fields, demand, startsByMs }) => ({
    description:
      fields.length > 0
        ? describeChange(fields, demand)
        : forecast.kind === "starts" && forecast.freedOn !== undefined
          ? `wait for work on nodes/${forecast.freedOn} to end`
          : "wait",
    changes: fieldChanges(fields, demand),
    ...(startsByMs === undefined ? {} : { startsByTime: timestampFromMs(startsByMs) }),
  }));
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

/** What matters most about capacity, as sentences. */
export function capacityInWords(explanation: Explanation, demand: Demand, nowMs: number): string {
  const { fit, forecast, fitsOnceFree, queuePosition } = explanation;
  if (fit.nodes === 0) return "No worker has joined yet.";
  if (forecast.kind === "starts" && forecast.atMs <= nowMs) {
    return "A node has room for it: the next cycle starts it.";
  }
  const [first] = fit.blockers;
  const why = first === undefined ? "others go first" : describeBlocker(first, fit.nodes, demand);
  const more = fit.blockers.length > 1 ? `, and ${fit.blockers.length - 1} more` : "";
  const line = queuePosition > 1 ? ` ${queuePosition - 1} in line before it.` : "";
  return fitsOnceFree
    ? `No node has room for it now: ${why}${more}.${line}`
    : `No node of the fleet can run it as it is: ${why}${more}.`;
}

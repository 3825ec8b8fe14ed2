import type { AttemptId, GpuId, TaskId } from "@fastgpu/domain/ids";
import { gpusOfPlacement, type Placement } from "@fastgpu/scheduling/plan";
import { readMaxCosts } from "../store/max-costs.ts";
import type { StoredGpu } from "../store/nodes.ts";
import type { CycleContext } from "./context.ts";
import { holdRequest, type HoldAnswer } from "./money.ts";
import type { Spent } from "./spent.ts";

/** What billing said to placements with GPUs. */
interface Answered {
  readonly open: ReadonlyMap<AttemptId, Extract<HoldAnswer, { kind: "open" }>>;
  /** Tasks that wait for money, and what is missing. */
  readonly blocked: Map<TaskId, string>;
  /** Those of them whose max_cost is used up. */
  readonly spent: readonly Spent[];
}

/** Asks billing to set aside what these placements may cost; what has no GPU costs nothing and is not asked for. */
export async function askHolds(
  c: CycleContext,
  asked: readonly { readonly attempt: AttemptId; readonly placement: Placement }[],
  gpus: ReadonlyMap<GpuId, StoredGpu>,
): Promise<Answered> {
  const paid = asked.filter(({ placement }) => gpusOfPlacement(placement).length > 0);
  const ids = new Set(paid.map(({ placement }) => placement.task.id));
  const bounds = await readMaxCosts(c.core, [...ids]);
  const requests = paid.flatMap(({ attempt, placement }) => {
    const maxCostNanos = bounds.get(placement.task.id);
    return holdRequest({ attempt, placement, maxCostNanos }, gpus, c.times) ?? [];
  });
  const answers = requests.length === 0 ? [] : await c.holds.create(c.leaderEpoch, requests);
  const open = new Map<AttemptId, Extract<HoldAnswer, { kind: "open" }>>();
  const blocked = new Map<TaskId, string>();
  const spent: Spent[] = [];
  for (const [at, { attempt, placement, maxCostNanos }] of requests.entries()) {
    const answer = answers[at];
    if (answer?.kind === "open") {
      open.set(attempt, answer);
      continue;
    }
    const refused = answer?.kind === "refused" ? answer : undefined;
    blocked.set(placement.task.id, refused?.message ?? "billing gave no hold");
    if (refused?.spent === undefined || maxCostNanos === undefined) continue;
    spent.push({ placement, maxCostNanos, left: refused.spent });
  }
  return { open, blocked, spent };
}

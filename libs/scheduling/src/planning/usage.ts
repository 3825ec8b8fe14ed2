import type { ShareTree } from "../order/shares.ts";
import type { PlanUsage } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { QueueTree } from "./queues.ts";

/** Part of what the slack of the share term would use in the long run that counts as nothing. */
const slackPart = 0.1;

/**
 * Past service as a term of the score, by queue of the tree, in millidoublings: the sum, over a queue and those above
 * it, of weight × log2 of service had over service due. Due is what a queue's weight gives it of what it and its rivals
 * (those beside it that want GPUs now) had together. Service decays, so that a term halves with the half-life: fair
 * shares hold over such a time, and not only at an instant (as the fair-share factor of batch schedulers does; Kay and
 * Lauder, "A fair share scheduler", CACM 1988).
 */
export function usageTerms(
  shares: ShareTree,
  tree: QueueTree,
  of: { usage: readonly PlanUsage[]; policy: SchedulingPolicy },
): Float64Array | undefined {
  const { usage, policy } = of;
  if (usage.length === 0 || policy.usage.weightMd === 0) return undefined;
  const { nodes, demandMilli } = shares;
  const had = new Float64Array(nodes.length);
  for (const { org, project, user, gpuMs } of usage) {
    for (const at of tree.pathOf({ org, project, user })) had[at]! += gpuMs;
  }
  // By parent: service and weights of those that want GPUs now.
  const sums = new Map<number, { had: number; weight: number }>();
  for (const [at, { parent, weight }] of nodes.entries()) {
    if (demandMilli[at] === 0) continue;
    const sum = sums.get(parent) ?? { had: 0, weight: 0 };
    sums.set(parent, { had: sum.had + had[at]!, weight: sum.weight + weight });
  }
  const steadyMs = policy.usage.halfLifeMs / Math.LN2;
  const slack = slackPart * policy.order.shareSlackGpus * steadyMs;
  const clamp = policy.order.shareClampMd;
  const terms = new Float64Array(nodes.length);
  for (const [at, { parent, weight }] of nodes.entries()) {
    const rivals = sums.get(parent);
    terms[at] = parent < 0 ? 0 : terms[parent]!;
    if (rivals === undefined || demandMilli[at] === 0) continue;
    const due = (rivals.had * weight) / rivals.weight;
    const overMd = 1000 * Math.log2((had[at]! + slack) / (due + slack));
    const bounded = Math.min(clamp, Math.max(-clamp, overMd));
    terms[at]! += Math.round((policy.usage.weightMd * bounded) / 1000);
  }
  return terms;
}

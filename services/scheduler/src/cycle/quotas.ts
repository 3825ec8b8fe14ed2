import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Demand } from "@fastgpu/scheduling/plan";
import { countHeldGpus, lockLimitedQueues } from "../store/queues.ts";

/** GPUs that queues may still take, by organisation and project; who has no limit is not in it. */
export type QuotasLeft = Map<OrgId | ProjectId, number>;

interface Owned {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly demand: Demand;
}

/**
 * What the limits leave to the queues of these tasks. Their rows stay locked until the transaction ends, so that no
 * other commit counts the same GPUs as free (I7).
 */
export async function quotasLeft(tx: Tx, tasks: readonly Owned[]): Promise<QuotasLeft> {
  const left: QuotasLeft = new Map();
  const withGpus = tasks.filter((task) => task.demand.gpuCount > 0);
  const owners = withGpus.flatMap(({ org, project }) => [
    { org, project },
    { org, project: undefined },
  ]);
  for (const queue of await lockLimitedQueues(tx, owners)) {
    if (queue.limitGpus === undefined) continue;
    left.set(queue.project ?? queue.org, queue.limitGpus - (await countHeldGpus(tx, queue)));
  }
  return left;
}

/** Takes GPUs from both quotas of a task, or from neither and answers false. */
export function spend(quotas: QuotasLeft, task: Owned, gpus: number): boolean {
  if (gpus === 0) return true;
  const limited = [task.project, task.org].filter((owner) => quotas.has(owner));
  if (limited.some((owner) => (quotas.get(owner) ?? 0) < gpus)) return false;
  for (const owner of limited) quotas.set(owner, (quotas.get(owner) ?? 0) - gpus);
  return true;
}

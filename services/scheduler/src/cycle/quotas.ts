import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Demand } from "@fastgpu/scheduling/plan";
import { countHeldGpus, lockLimitedQueues, type QueueOwner } from "../store/queues.ts";

/** GPUs that one queue may still take. */
interface Left {
  /** Of all models together. */
  total: number;
  /** Of each model that has a limit of its own. */
  readonly models: Map<string, number>;
}

/** What the limits leave, by owner; who has no limit is not in it. */
export type QuotasLeft = ReadonlyMap<string, Left>;

interface Owned {
  readonly org: OrgId;
  readonly project: ProjectId;
  /** Who submitted it. */
  readonly user: string;
  readonly demand: Demand;
}

const ownersOf = ({ org, project, user }: Omit<Owned, "demand">): readonly QueueOwner[] => [
  { org, project: undefined, user: undefined },
  { org, project, user: undefined },
  ...(user === "" ? [] : [{ org, project, user }]),
];

const keyOf = ({ org, project, user }: QueueOwner): string => `${project ?? org} ${user ?? ""}`;

/**
 * What the limits leave to the queues of these tasks. Their rows stay locked until the transaction ends, so that no
 * other commit counts the same GPUs as free (I7).
 */
export async function quotasLeft(tx: Tx, tasks: readonly Owned[]): Promise<QuotasLeft> {
  const withGpus = tasks.filter((task) => task.demand.gpuCount > 0);
  const queues = await lockLimitedQueues(tx, withGpus.flatMap(ownersOf));
  const held = await countHeldGpus(tx, queues);
  return new Map(
    queues.map((queue, at) => {
      const { total = 0, models = {} } = held[at] ?? {};
      const limits = Object.entries(queue.models).flatMap(([model, { limitGpus }]) =>
        limitGpus === undefined ? [] : [[model, limitGpus - (models[model] ?? 0)] as const],
      );
      const left = (queue.limitGpus ?? Number.POSITIVE_INFINITY) - total;
      return [keyOf(queue), { total: left, models: new Map(limits) }];
    }),
  );
}

/** Takes GPUs, given by their models, from every quota of a task, or from none and answers false. */
export function spend(quotas: QuotasLeft, task: Owned, models: readonly string[]): boolean {
  if (models.length === 0) return true;
  const counts = new Map<string, number>();
  for (const model of models) counts.set(model, (counts.get(model) ?? 0) + 1);
  const limited = ownersOf(task).flatMap((owner) => quotas.get(keyOf(owner)) ?? []);
  const fits = limited.every(
    (left) =>
      left.total >= models.length &&
      [...counts].every(([model, count]) => (left.models.get(model) ?? count) >= count),
  );
  if (!fits) return false;
  for (const left of limited) {
    left.total -= models.length;
    for (const [model, count] of counts) {
      const of = left.models.get(model);
      if (of !== undefined) left.models.set(model, of - count);
    }
  }
  return true;
}

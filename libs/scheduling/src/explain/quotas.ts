import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { milliOfDemand, milliOfHeld } from "../gpu-part.ts";
import type { PlanLease, PlanNode, PlanQueue, PlanState, PlanTask } from "../plan.ts";
import { createQueueOrder, type LimitHit } from "../queue-order.ts";

/** A queue whose limit keeps a task waiting. */
export interface QuotaBlock {
  readonly queue: QueueName;
  /** Undefined: the limit is of GPUs of any model. */
  readonly model: string | undefined;
  readonly limitGpus: number;
  /** Parts of GPUs count as such, in thousandths. */
  readonly heldGpus: number;
  /** GPUs that the task would hold at once, in thousandths too. */
  readonly wantedGpus: number;
  /** The limit with which it would not stand in the way: whole GPUs. */
  readonly neededGpus: number;
  /** What holds the queue's GPUs, those that end first coming first. */
  readonly holders: readonly Holder[];
}

/** Whose queue it is: a user's in a project, a project's, or the organisation's own. */
export interface QueueName {
  readonly org: OrgId;
  readonly project: ProjectId | undefined;
  readonly user: string | undefined;
}

/** An attempt that counts for a queue. */
export interface Holder {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly project: ProjectId;
  readonly gpus: number;
  readonly endsByMs: number;
}

/** Limits above one another, in all and by model, each of which a task may reach. */
const maxBlocks = 12;

/** Every limit that the planner would stop the task at, one after the other: each is raised in a copy to see the next. */
export function quotaBlocksOf(state: PlanState, task: PlanTask): QuotaBlock[] {
  const blocks: QuotaBlock[] = [];
  let { queues } = state;
  while (blocks.length < maxBlocks) {
    const hit = createQueueOrder({ ...state, queues }).limit(task);
    if (hit === undefined) break;
    const block = blockOf(state, task, hit);
    blocks.push(block);
    queues = withLimit(queues, block);
  }
  return blocks;
}

/** The queues with the limits that a task would need. */
export function withLimits(
  queues: readonly PlanQueue[],
  blocks: readonly QuotaBlock[],
): readonly PlanQueue[] {
  return blocks.reduce(withLimit, queues);
}

function withLimit(queues: readonly PlanQueue[], block: QuotaBlock): PlanQueue[] {
  const { queue, model, neededGpus } = block;
  return queues.map((row) => {
    if (row.org !== queue.org || row.project !== queue.project || row.user !== queue.user)
      return row;
    if (model === undefined) return { ...row, limitGpus: neededGpus };
    const guaranteedGpus = row.models[model]?.guaranteedGpus ?? 0;
    return {
      ...row,
      models: { ...row.models, [model]: { guaranteedGpus, limitGpus: neededGpus } },
    };
  });
}

function blockOf(state: PlanState, task: PlanTask, hit: LimitHit): QuotaBlock {
  const project = hit.of === "organisation" ? undefined : task.project;
  const user = hit.of === "user" ? task.user : undefined;
  const { model } = hit;
  const wantedGpus = (milliOfDemand(task.demand) * task.replicas) / 1000;
  const counts = (lease: PlanLease): boolean =>
    lease.gpus.length > 0 &&
    lease.org === task.org &&
    (project ?? lease.project) === lease.project &&
    (user ?? lease.user) === lease.user;
  const ofModel = (node: PlanNode, lease: PlanLease): boolean =>
    model === undefined ||
    node.gpus.some((gpu) => gpu.model === model && lease.gpus.includes(gpu.id));
  const leases = state.nodes.flatMap((node) =>
    node.running.filter((lease) => counts(lease) && ofModel(node, lease)),
  );
  const holders = [...Map.groupBy(leases, ({ attempt }) => attempt)].flatMap(([attempt, held]) => {
    const [first] = held;
    if (first === undefined) return [];
    const gpus = held.reduce((sum, lease) => sum + milliOfHeld(lease), 0) / 1000;
    const { task: holder, project: of, endsByMs } = first;
    return [{ attempt, task: holder, project: of, gpus, endsByMs }];
  });
  return {
    queue: { org: task.org, project, user },
    model,
    limitGpus: hit.limitGpus,
    heldGpus: hit.heldGpus,
    wantedGpus,
    neededGpus: Math.ceil(hit.heldGpus + wantedGpus),
    holders: holders.sort((a, b) => a.endsByMs - b.endsByMs),
  };
}

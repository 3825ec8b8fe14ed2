import type { GpuId, NodeId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { outlookOf } from "@fastgpu/scheduling/explain/outlook";
import type { Lengths } from "@fastgpu/scheduling/explain/future";
import type { PlanNode, PlanQueue, PlanState, Rng } from "@fastgpu/scheduling/plan";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { createPlanner } from "@fastgpu/scheduling/planner";
import type { PlayedMove, PlayedOut } from "./question.ts";
import type { Snapshot } from "./snapshot.ts";

/** What would be otherwise. */
export interface Change {
  /** Undefined: the one in force. */
  readonly policy: SchedulingPolicy | undefined;
  readonly added: readonly NewNodes[];
  /** Nodes that take no new work. */
  readonly drained: readonly string[];
  readonly queues: readonly ChangedQueue[];
  /** Also look for moves that free whole nodes, whatever the policy says. */
  readonly consolidate: boolean;
}

/** Nodes that are not there yet, all alike. */
export interface NewNodes {
  readonly count: number;
  /** A node that they are like; undefined: by the fields below. */
  readonly like: string | undefined;
  readonly gpuModel: string;
  readonly gpus: number;
  readonly gpuMemoryMib: number;
  readonly cpuMillis: number;
  readonly memoryMib: number;
}

/** A queue with other values; undefined: as it is. */
export interface ChangedQueue {
  /** Undefined for a project whose organisation nothing of the state tells. */
  readonly org: OrgId | undefined;
  readonly project: ProjectId | undefined;
  /** A user of the project; undefined: the project's (or organisation's) own. */
  readonly user: string | undefined;
  readonly weight: number | undefined;
  readonly guaranteedGpus: number | undefined;
  readonly limitGpus: number | undefined;
  readonly models: readonly ChangedModel[];
}

/** What a queue is due of the GPUs of one model; undefined: as it is. */
interface ChangedModel {
  readonly model: string;
  readonly guaranteedGpus: number | undefined;
  readonly limitGpus: number | undefined;
}

/** Plays the present state and the changed one until the same time. */
export function playBoth(of: {
  readonly snapshot: Snapshot;
  readonly change: Change;
  readonly nowMs: number;
  readonly untilMs: number;
  readonly lengths: Lengths;
  readonly rng: Rng;
  readonly goOn: () => boolean;
}): PlayedOut {
  const { snapshot, change, nowMs, untilMs, lengths, rng } = of;
  const unknown = unknownOf(snapshot.state, change);
  if (unknown !== undefined) return { kind: "unknown", resource: unknown };
  const common = { nowMs, lengths, rng };
  const { policy, state } = snapshot;
  // The second gets as long as the first took.
  const firstMs = performance.now();
  const now = outlookOf({ ...common, policy, state, goOn: of.goOn }, untilMs);
  const secondMs = performance.now();
  const tookMs = secondMs - firstMs;
  const goOn = (): boolean => of.goOn() || performance.now() - secondMs < tookMs;
  const after = applied(state, change);
  const wanted = change.policy ?? policy;
  const changed = outlookOf({ ...common, policy: wanted, state: after, goOn }, untilMs);
  const moves = movesOf(after, { policy: wanted, consolidate: change.consolidate, nowMs, rng });
  const tasks = state.tasks.map(({ id, project, demand, replicas }) => ({
    id,
    project,
    gpus: demand.gpuCount * replicas,
  }));
  return { kind: "whatIf", now, changed, tasks, moves };
}

/** Moves that would free whole nodes at this moment, with whose they are. */
function movesOf(
  state: PlanState,
  of: { policy: SchedulingPolicy; consolidate: boolean; nowMs: number; rng: Rng },
): PlayedMove[] {
  const { consolidation } = of.policy;
  const enabled = consolidation.enabled || of.consolidate;
  if (!enabled) return [];
  const policy = { ...of.policy, consolidation: { ...consolidation, enabled } };
  const { moves } = createPlanner({ policy, rng: of.rng }).plan(state, of.nowMs);
  const projects = new Map(
    state.nodes.flatMap(({ running }) => running.map(({ task, project }) => [task, project])),
  );
  return moves.flatMap(({ task, from, to }) => {
    const project = projects.get(task);
    return project === undefined
      ? []
      : [{ task, project, from, to: to.node, gpus: to.gpus.length }];
  });
}

/** The first resource of a change that the state does not have. */
function unknownOf({ nodes }: PlanState, { added, drained }: Change): string | undefined {
  const known = new Set<string>(nodes.map(({ id }) => id));
  const named = [...added.flatMap(({ like }) => like ?? []), ...drained];
  const missing = named.find((id) => !known.has(id));
  return missing === undefined ? undefined : `nodes/${missing}`;
}

function applied(state: PlanState, change: Change): PlanState {
  const drained = new Set(change.drained);
  const kept = state.nodes.map((node) =>
    drained.has(node.id) ? { ...node, acceptsWork: false } : node,
  );
  const added = change.added.flatMap((group, at) => newNodes(state, group, at));
  const queues = change.queues.reduce((rows, queue) => withQueue(rows, queue, state), state.queues);
  return { ...state, nodes: [...kept, ...added], queues };
}

function newNodes({ nodes }: PlanState, group: NewNodes, at: number): PlanNode[] {
  const model = nodes.find(({ id }) => id === group.like);
  const { gpuModel, gpus, gpuMemoryMib, cpuMillis, memoryMib } = group;
  const node: Omit<PlanNode, "id" | "name"> = {
    acceptsWork: true,
    runtimes: model?.runtimes ?? ["container", "process"],
    cpuMillis: model?.cpuMillis ?? cpuMillis,
    memoryMib: model?.memoryMib ?? memoryMib,
    diskMib: model?.diskMib ?? 1_048_576,
    topology: model?.topology ?? {},
    running: [],
    gpus:
      model?.gpus ??
      Array.from({ length: gpus }, () => ({
        id: "" as GpuId,
        model: gpuModel,
        memoryMib: gpuMemoryMib,
        simulated: false,
        free: true,
        reservedFor: undefined,
      })),
  };
  return Array.from({ length: group.count }, (_, n) => ({
    ...node,
    id: `node-added-${at}-${n}` as NodeId,
    name: `added-${at}-${n}`,
    gpus: node.gpus.map((gpu, index) => ({
      ...gpu,
      id: `gpu-added-${at}-${n}-${index}` as GpuId,
      free: true,
      reservedFor: undefined,
    })),
  }));
}

function withQueue(
  rows: readonly PlanQueue[],
  change: ChangedQueue,
  state: PlanState,
): readonly PlanQueue[] {
  const { project, user, weight } = change;
  const org = change.org ?? orgOf(state, project);
  if (org === undefined) return rows;
  const isIt = (row: PlanQueue): boolean =>
    row.org === org && row.project === project && row.user === user;
  const before = rows.find(isIt) ?? {
    ...{ org, project, user, weight: 1, guaranteedGpus: 0 },
    ...{ limitGpus: undefined, models: {} },
  };
  const models = change.models.map(
    (each) => [each.model, withShare(before.models[each.model], each)] as const,
  );
  const after: PlanQueue = {
    ...before,
    weight: weight ?? before.weight,
    ...withShare(before, change),
    models: { ...before.models, ...Object.fromEntries(models) },
  };
  return [...rows.filter((row) => !isIt(row)), after];
}

/** A guarantee is at most the limit. */
function withShare(
  before: { readonly guaranteedGpus: number; readonly limitGpus: number | undefined } | undefined,
  change: Pick<ChangedModel, "guaranteedGpus" | "limitGpus">,
): { guaranteedGpus: number; limitGpus: number | undefined } {
  const guaranteed = change.guaranteedGpus ?? before?.guaranteedGpus ?? 0;
  const limitGpus = change.limitGpus ?? before?.limitGpus;
  return { guaranteedGpus: Math.min(guaranteed, limitGpus ?? guaranteed), limitGpus };
}

/** The organisation of a project that has anything in the state. */
function orgOf(state: PlanState, project: ProjectId | undefined): OrgId | undefined {
  const owned = [...state.tasks, ...state.queues, ...state.nodes.flatMap((node) => node.running)];
  return owned.find((each) => each.project === project)?.org;
}

import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { ShareNode } from "../order/shares.ts";
import type { PlanNode, PlanQueue } from "../plan.ts";

/** Whose a task or lease is. */
export interface Owner {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
}

/**
 * The measure in which shares are counted: thousandths of a GPU. What has no GPU counts by its part of the fleet's
 * cores, as if all cores were worth all GPUs (the dominant resource of Ghodsi et al., NSDI '11, over two resources).
 */
export interface Unit {
  readonly capacityMilli: number;
  readonly gpus: number;
  milliOf(gpuMilli: number, cpuMillis: number): number;
}

/** Greatest size that the order's columns hold. */
const maxMilli = 2 ** 31 - 1;

/** The measure for a fleet. */
export function createUnit(nodes: readonly PlanNode[]): Unit {
  let gpus = 0;
  let cpuMillis = 0;
  for (const node of nodes) {
    gpus += node.gpus.length;
    cpuMillis += node.cpuMillis;
  }
  const capacityMilli = gpus > 0 ? gpus * 1000 : cpuMillis;
  const perCpuMilli = cpuMillis === 0 ? 0 : capacityMilli / cpuMillis;
  return {
    capacityMilli,
    gpus,
    milliOf: (gpuMilli, cpu) =>
      Math.min(maxMilli, gpuMilli > 0 ? gpuMilli : Math.ceil(cpu * perCpuMilli)),
  };
}

/** The queues of a plan as a tree: organisations, their projects, and users where a project has several. */
export interface QueueTree {
  readonly nodes: readonly ShareNode[];
  /** Index in `nodes` of the queue that an owner's work waits in. */
  leafOf(owner: Owner): number;
  /** Those of an owner's queues that are in the tree, the organisation's first. */
  pathOf(owner: Owner): readonly number[];
}

const userKey = (project: ProjectId, user: string): string => `${project} ${user}`;
/** A row's own name: that of a user, a project or an organisation. */
const rowKey = ({ org, project, user }: PlanQueue): string =>
  project === undefined ? org : user === undefined ? project : userKey(project, user);

/** The rows by name; of several for one queue the last counts. */
export const rowsByKey = (rows: readonly PlanQueue[]): ReadonlyMap<string, PlanQueue> =>
  new Map(rows.map((row) => [rowKey(row), row]));

/** The rows that hold for an owner, its own first, the organisation's last. */
export function rowsOf(
  rows: ReadonlyMap<string, PlanQueue>,
  { org, project, user }: Owner,
): PlanQueue[] {
  if (rows.size === 0) return [];
  return [userKey(project, user), project, org].flatMap((key) => rows.get(key) ?? []);
}

/** A size that counts in no limit, by owner and, summed up, by what is above. */
type Spare = ReadonlyMap<string, number>;

/** Builds the tree for whoever runs, waits or is wanted. */
export function createQueueTree(
  owners: Iterable<Owner>,
  of: { queues: readonly PlanQueue[]; spare: Spare },
): QueueTree {
  const rows = rowsByKey(of.queues);
  const orgOf = new Map<ProjectId, OrgId>();
  const usersOf = new Map<ProjectId, Set<string>>();
  for (const { org, project, user } of owners) {
    orgOf.set(project, org);
    const users = usersOf.get(project);
    if (users === undefined) usersOf.set(project, new Set([user]));
    else users.add(user);
  }
  const nodes: ShareNode[] = [];
  const byKey = new Map<string, number>();
  const leaves = new Map<string, number>();
  const add = (parent: number, key: string): number => {
    const at = nodes.push(shareNode(parent, rows.get(key), of.spare.get(key) ?? 0)) - 1;
    byKey.set(key, at);
    return at;
  };
  for (const org of [...new Set(orgOf.values())].toSorted()) add(-1, org);
  for (const [project, org] of [...orgOf].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const at = add(byKey.get(org)!, project);
    const users = [...(usersOf.get(project) ?? [])].toSorted();
    // A lone user without a row of its own is the project: a level more would only count the same share twice.
    const alone = users.length === 1 && !rows.has(userKey(project, users[0]!));
    for (const user of users) {
      leaves.set(userKey(project, user), alone ? at : add(at, userKey(project, user)));
    }
  }
  return {
    nodes,
    pathOf: ({ org, project, user }) =>
      [org, project, userKey(project, user)].flatMap((key) => byKey.get(key) ?? []),
    leafOf({ project, user }) {
      const leaf = leaves.get(userKey(project, user));
      if (leaf === undefined) throw new RangeError(`no queue for ${user} in ${project}`);
      return leaf;
    },
  };
}

function shareNode(parent: number, row: PlanQueue | undefined, spareMilli: number): ShareNode {
  const limitMilli =
    row?.limitGpus === undefined ? Number.POSITIVE_INFINITY : row.limitGpus * 1000 + spareMilli;
  const guaranteedMilli = Math.min((row?.guaranteedGpus ?? 0) * 1000, limitMilli);
  return { parent, weight: row?.weight ?? 1, guaranteedMilli, limitMilli };
}

/** What each queue runs and wants without GPUs: limits are of GPUs, so the tree's limits leave room for it. */
export function coresOnly(
  queues: readonly PlanQueue[],
  wanted: Iterable<{ readonly owner: Owner; readonly gpus: number; readonly milli: number }>,
): Spare {
  const sums = new Map<string, number>();
  if (queues.every((row) => row.limitGpus === undefined)) return sums;
  for (const { owner, gpus, milli } of wanted) {
    if (gpus > 0) continue;
    for (const key of [owner.org, owner.project, userKey(owner.project, owner.user)]) {
      sums.set(key, (sums.get(key) ?? 0) + milli);
    }
  }
  return sums;
}

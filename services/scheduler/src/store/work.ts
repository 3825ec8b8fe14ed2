import { parseMultirange, type IndexSet } from "@fastgpu/domain/index-set";
import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type GpuId,
  type NodeId,
  type OrgId,
  type ProjectId,
  type TaskId,
} from "@fastgpu/domain/ids";
import type { Member } from "@fastgpu/domain/member-name";
import type { AttemptState, ExitClass } from "@fastgpu/domain/states";
import { statement, type Querier } from "@fastgpu/postgres/pool";

/** What a node has to be told: a lease to take up or an attempt to stop. */
export interface NodeWork {
  readonly node: NodeId;
  readonly attempt: AttemptId;
  /** Rank in its gang, from 0; 0 where it is none. */
  readonly member: number;
  /** Nodes of all members, by rank. */
  readonly memberNodes: readonly NodeId[];
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly epoch: number;
  readonly number: number;
  readonly stop: { readonly reason: ExitClass; readonly graceMs: number } | undefined;
  readonly elements: IndexSet | undefined;
  readonly slots: number;
  /** Until when the lease stands: the node's lease, or the end of its money where that comes first. */
  readonly leaseEndMs: number;
  readonly traceparent: string;
  /** TaskSpec, serialized. */
  readonly spec: Uint8Array;
  readonly displayName: string;
  readonly gpus: readonly GpuId[];
  /** The newest checkpoint in storage that earlier attempts have left. */
  readonly checkpoint: { readonly digest: string; readonly epoch: number } | undefined;
}

interface WorkRow {
  node_id: string;
  id: string;
  member: number;
  member_nodes: string[];
  task_id: string;
  org_id: string;
  project_id: string;
  epoch: bigint;
  number: number;
  state: "LEASED" | "STOPPING";
  stop_class: ExitClass | null;
  stop_grace_ms: bigint;
  elements: string | null;
  slots: number;
  lease_end_ms: bigint;
  traceparent: string;
  spec: Buffer;
  display_name: string;
  gpus: string[];
  checkpoint_digest: string | null;
  checkpoint_epoch: bigint | null;
}

const selectWork = statement<WorkRow>(
  "work_of_nodes",
  `select a.node_id, a.id, a.member, a.task_id, a.org_id, a.project_id, a.epoch, a.number, a.state, a.stop_class,
     a.stop_grace_ms, a.elements, a.slots, 
     least(n.lease_until_ms, coalesce(a.running_ms, a.lease_ms) + a.funded_ms) as lease_end_ms,
     a.traceparent, t.spec, t.display_name,
     array(select l.gpu_id from allocations l join gpus g on g.id = l.gpu_id
           where l.attempt_id = a.id and l.member = a.member order by g.index) as gpus,
     case when t.replicas = 1 then array[a.node_id]
       else array(select m.node_id from attempts m where m.id = a.id order by m.member) end as member_nodes,
     c.checkpoint_digest, c.epoch as checkpoint_epoch
   from attempts a join tasks t on t.id = a.task_id join nodes n on n.id = a.node_id
     left join lateral (
       select e.checkpoint_digest, e.epoch from attempts e
       where a.number > 0 and e.task_id = a.task_id and e.member = a.member and e.checkpoint_digest is not null
       order by e.epoch desc limit 1) c on true
   where a.node_id = any($1::uuid[]) and (a.state = 'LEASED' or (a.state = 'STOPPING' and not a.stop_delivered))
   order by a.id, a.member`,
);

/** Leases that nodes have not taken up, and stops that have not reached them. */
export async function readWork(db: Querier, nodes: readonly NodeId[]): Promise<NodeWork[]> {
  const rows = await db.query(selectWork, [nodes.map(idToUuid)]);
  return rows.map((row) => ({
    node: uuidToId("node", row.node_id),
    attempt: uuidToId("att", row.id),
    member: row.member,
    memberNodes: row.member_nodes.map((id) => uuidToId("node", id)),
    task: uuidToId("task", row.task_id),
    org: uuidToId("org", row.org_id),
    project: uuidToId("proj", row.project_id),
    epoch: Number(row.epoch),
    number: row.number,
    stop:
      row.state === "STOPPING"
        ? { reason: row.stop_class ?? "cancelled", graceMs: Number(row.stop_grace_ms) }
        : undefined,
    elements: row.elements === null ? undefined : parseMultirange(row.elements),
    slots: row.slots,
    leaseEndMs: Number(row.lease_end_ms),
    traceparent: row.traceparent,
    spec: row.spec,
    displayName: row.display_name,
    gpus: row.gpus.map((id) => uuidToId("gpu", id)),
    checkpoint:
      row.checkpoint_digest === null
        ? undefined
        : { digest: row.checkpoint_digest, epoch: Number(row.checkpoint_epoch) },
  }));
}

const selectFunded = statement<{
  node_id: string;
  id: string;
  member: number;
  until_ms: bigint;
}>(
  "work_funded_ends",
  `select node_id, id, member, coalesce(running_ms, lease_ms) + funded_ms as until_ms from attempts
   where node_id = any($1::uuid[]) and state <> 'ENDED' and funded_ms is not null`,
);

/** Until when the attempts of nodes are paid for: each member of a gang by the time it has run itself. */
export async function readFundedEnds(db: Querier, nodes: readonly NodeId[]) {
  const rows = await db.query(selectFunded, [nodes.map(idToUuid)]);
  return rows.map((row) => ({
    node: uuidToId("node", row.node_id),
    attempt: uuidToId("att", row.id),
    member: row.member,
    untilMs: Number(row.until_ms),
  }));
}

/** What a storage grant of an attempt's member is made of. */
export interface Grantable extends Member {
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly epoch: number;
  readonly state: AttemptState;
  /** TaskSpec, serialized. */
  readonly spec: Uint8Array;
}

const selectGrantable = statement<{
  id: string;
  member: number;
  task_id: string;
  org_id: string;
  project_id: string;
  epoch: bigint;
  state: AttemptState;
  spec: Buffer;
}>(
  "work_grantable",
  `select a.id, a.member, a.task_id, a.org_id, a.project_id, a.epoch, a.state, t.spec
   from attempts a join unnest($2::uuid[], $3::int[]) as m(id, member) on a.id = m.id and a.member = m.member
     join tasks t on t.id = a.task_id
   where a.node_id = $1 and a.state <> 'ENDED'`,
);

/** Those of these members that a node has and that have not ended. */
export async function readGrantable(
  db: Querier,
  node: NodeId,
  members: readonly Member[],
): Promise<Grantable[]> {
  const ids = members.map(({ attempt }) => idToUuid(attempt));
  const ranks = members.map(({ member }) => member);
  const rows = await db.query(selectGrantable, [idToUuid(node), ids, ranks]);
  return rows.map((row) => ({
    attempt: uuidToId("att", row.id),
    member: row.member,
    task: uuidToId("task", row.task_id),
    org: uuidToId("org", row.org_id),
    project: uuidToId("proj", row.project_id),
    epoch: Number(row.epoch),
    state: row.state,
    spec: row.spec,
  }));
}

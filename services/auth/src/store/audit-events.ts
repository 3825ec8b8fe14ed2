import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { chainFacts, genesisHash } from "../audit/chain.ts";
import type { AuditCheckpoint, AuditFact, ChainedEvent } from "../audit/chain.ts";

/** The chain of facts that belong to no organisation. */
export const platformChain = "org-00000000000000000000000000" as OrgId;

const ensureHead = statement(
  "audit_head_ensure",
  "INSERT INTO audit_heads (org_id, seq, hash) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING",
);
const lockHead = statement<{ seq: bigint; hash: string }>(
  "audit_head_lock",
  "SELECT seq, hash FROM audit_heads WHERE org_id = $1 FOR UPDATE",
);
const moveHead = statement(
  "audit_head_move",
  "UPDATE audit_heads SET seq = $2, hash = $3 WHERE org_id = $1",
);
const insert = statement(
  "audit_event_insert",
  `INSERT INTO audit_events
     (org_id, seq, at_ms, principal, method, resource, project, request_id, denied_calls, hash)
   SELECT $1, e.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
     $7::text[], $8::text[], $9::integer[], $10::text[]) e`,
);

/**
 * The one appender: puts facts behind the end of an organisation's chain. The row lock on the chain's head makes it
 * one at a time and is held to the end of the transaction, so call it last; for several organisations in one
 * transaction, in ascending order of their ids.
 */
export async function appendAudit(tx: Tx, org: OrgId, facts: readonly AuditFact[]): Promise<void> {
  if (facts.length === 0) return;
  const uuid = idToUuid(org);
  await tx.query(ensureHead, [uuid, genesisHash(org)]);
  const [head] = await tx.query(lockHead, [uuid]);
  if (head === undefined) throw new Error(`no audit chain of ${org}`);
  const events = chainFacts({ seq: Number(head.seq), hash: head.hash }, facts);
  await tx.query(insert, [
    uuid,
    events.map((event) => event.seq),
    events.map((event) => event.timeMs),
    events.map((event) => event.principal),
    events.map((event) => event.method),
    events.map((event) => event.resource),
    events.map((event) => event.project),
    events.map((event) => event.requestId),
    events.map((event) => event.deniedCalls),
    events.map((event) => event.hash),
  ]);
  const last = events.at(-1);
  await tx.query(moveHead, [uuid, last?.seq, last?.hash]);
}

interface Row {
  readonly seq: bigint;
  readonly at_ms: bigint;
  readonly principal: string;
  readonly method: string;
  readonly resource: string;
  readonly project: string;
  readonly request_id: string;
  readonly denied_calls: number;
  readonly hash: string;
}

const list = statement<Row>(
  "audit_event_list",
  `SELECT seq, at_ms, principal, method, resource, project, request_id, denied_calls, hash
   FROM audit_events WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
);

/** Events of an organisation behind a seq, oldest first. */
export async function listAuditEvents(
  db: Querier,
  page: { org: OrgId; afterSeq: number; limit: number },
): Promise<ChainedEvent[]> {
  const rows = await db.query(list, [idToUuid(page.org), page.afterSeq, page.limit]);
  return rows.map((row) => ({
    seq: Number(row.seq),
    timeMs: Number(row.at_ms),
    principal: row.principal,
    method: row.method,
    resource: row.resource,
    project: row.project,
    requestId: row.request_id,
    deniedCalls: row.denied_calls,
    hash: row.hash,
  }));
}

interface UnsignedRow {
  readonly org_id: string;
  readonly seq: bigint;
  readonly hash: string;
  readonly checkpoint_number: bigint;
}

const lockUnsigned = statement<UnsignedRow>(
  "audit_head_unsigned",
  `SELECT org_id, seq, hash, checkpoint_number FROM audit_heads
   WHERE checkpoint_seq < seq ORDER BY org_id LIMIT $1 FOR UPDATE SKIP LOCKED`,
);
const insertCheckpoint = statement(
  "audit_checkpoint_insert",
  `WITH moved AS (
     UPDATE audit_heads SET checkpoint_number = $2, checkpoint_seq = $3 WHERE org_id = $1
   )
   INSERT INTO audit_checkpoints (org_id, number, seq, hash, at_ms, signature)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);

/** Chains that grew since their last checkpoint, locked for the transaction. */
export async function lockUnsignedHeads(
  tx: Tx,
  limit: number,
): Promise<{ org: OrgId; seq: number; hash: string; nextNumber: number }[]> {
  const rows = await tx.query(lockUnsigned, [limit]);
  return rows.map((row) => ({
    org: uuidToId("org", row.org_id),
    seq: Number(row.seq),
    hash: row.hash,
    nextNumber: Number(row.checkpoint_number) + 1,
  }));
}

/** Keeps a signed checkpoint and moves the chain's mark to it. */
export async function insertAuditCheckpoint(
  tx: Tx,
  org: OrgId,
  checkpoint: AuditCheckpoint,
): Promise<void> {
  const { number, seq, hash, timeMs, signature } = checkpoint;
  await tx.query(insertCheckpoint, [idToUuid(org), number, seq, hash, timeMs, signature]);
}

const listCheckpoints = statement<{
  number: bigint;
  seq: bigint;
  hash: string;
  at_ms: bigint;
  signature: string;
}>(
  "audit_checkpoint_list",
  "SELECT number, seq, hash, at_ms, signature FROM audit_checkpoints WHERE org_id = $1 ORDER BY number",
);

/** All checkpoints of an organisation, oldest first. */
export async function listAuditCheckpoints(db: Querier, org: OrgId): Promise<AuditCheckpoint[]> {
  const rows = await db.query(listCheckpoints, [idToUuid(org)]);
  return rows.map((row) => ({
    number: Number(row.number),
    seq: Number(row.seq),
    hash: row.hash,
    timeMs: Number(row.at_ms),
    signature: row.signature,
  }));
}

const listChains = statement<{ org_id: string }>(
  "audit_chain_list",
  "SELECT org_id FROM audit_events GROUP BY org_id UNION SELECT org_id FROM audit_checkpoints GROUP BY org_id",
);

/** Organisations that have an audit chain. */
export async function listAuditChains(db: Querier): Promise<OrgId[]> {
  const rows = await db.query(listChains);
  return rows.map((row) => uuidToId("org", row.org_id));
}

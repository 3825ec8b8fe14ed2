import {
  idToUuid,
  uuidToId,
  type OrgId,
  type ProjectId,
  type ReservationId,
} from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { PlanReservation } from "@fastgpu/scheduling/plan";
import { nil } from "./columns.ts";

/** Whose a reservation is: a project's, or the whole organisation's where there is no project. */
export interface ReservationOwner {
  readonly org: OrgId;
  readonly project: ProjectId | undefined;
}

/** A reservation as the database has it. */
export interface StoredReservation extends PlanReservation {
  readonly id: ReservationId;
  readonly displayName: string;
  /** Who made it. */
  readonly creator: string;
  readonly revision: number;
  readonly createdMs: number;
  readonly updatedMs: number;
}

interface ReservationRow {
  id: string;
  org_id: string;
  project_id: string;
  display_name: string;
  gpus: number;
  per_node: number;
  models: string[];
  start_ms: bigint;
  end_ms: bigint;
  creator: string;
  revision: bigint;
  created_ms: bigint;
  updated_ms: bigint;
}

const toReservation = (row: ReservationRow): StoredReservation => ({
  id: uuidToId("resv", row.id),
  org: uuidToId("org", row.org_id),
  project: row.project_id === row.org_id ? undefined : uuidToId("proj", row.project_id),
  displayName: row.display_name,
  gpus: row.gpus,
  ...(row.per_node > 0 ? { perNode: row.per_node } : {}),
  models: row.models,
  startMs: Number(row.start_ms),
  endMs: Number(row.end_ms),
  creator: row.creator,
  revision: Number(row.revision),
  createdMs: Number(row.created_ms),
  updatedMs: Number(row.updated_ms),
});

/** Where a page of reservations goes on: after this row. */
export const cursorOfReservation = ({ startMs, id }: StoredReservation): string =>
  `${startMs} ${idToUuid(id)}`;

const lockAll = statement(
  "reservations_lock_all",
  "select pg_advisory_xact_lock(hashtextextended('scheduler.reservations', 0))",
);
const selectOpen = statement<ReservationRow>(
  "reservations_open",
  "select * from reservations where end_ms > $1 order by id",
);
const selectOne = statement<ReservationRow>(
  "reservations_one",
  "select * from reservations where id = $1 and org_id = $2 and ($3::uuid is null or project_id = $3)",
);
const selectPage = statement<ReservationRow>(
  "reservations_page",
  `select * from reservations
   where org_id = $1 and ($2::uuid is null or project_id = $2) and end_ms > $3 and (start_ms, id) > ($4, $5)
   order by start_ms, id limit $6`,
);
const insert = statement(
  "reservations_insert",
  `insert into reservations (id, org_id, project_id, display_name, gpus, models, start_ms, end_ms, creator, created_ms,
     updated_ms, per_node)
   values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)`,
);
const update = statement(
  "reservations_update",
  `update reservations set display_name = $2, gpus = $3, models = $4, start_ms = $5, end_ms = $6, updated_ms = $7, per_node = $8,
     revision = revision + 1
   where id = $1`,
);
const remove = statement("reservations_delete", "delete from reservations where id = $1");
const prune = statement<{ id: string }>(
  "reservations_prune",
  `delete from reservations where id in (select id from reservations where end_ms < $1 limit $2) returning id`,
);

/** Keeps other changes of reservations out until the transaction ends: what they add up to is checked. */
export async function lockReservations(tx: Querier): Promise<void> {
  await tx.query(lockAll);
}

/** Every reservation of all organisations that is not over, by id. */
export async function readOpenReservations(
  db: Querier,
  nowMs: number,
): Promise<StoredReservation[]> {
  return (await db.query(selectOpen, [nowMs])).map(toReservation);
}

/** One reservation of an organisation, or of that project alone. */
export async function readReservation(
  db: Querier,
  owner: ReservationOwner,
  id: ReservationId,
): Promise<StoredReservation | undefined> {
  const { org, project } = owner;
  const values = [idToUuid(id), idToUuid(org), project === undefined ? null : idToUuid(project)];
  const [row] = await db.query(selectOne, values);
  return row === undefined ? undefined : toReservation(row);
}

/** A page by start, of an organisation with all its projects, or of one project. */
export async function listReservations(
  db: Querier,
  owner: ReservationOwner,
  page: { endAfterMs: number; after: string | undefined; limit: number },
): Promise<StoredReservation[]> {
  const [startMs = "-1", id = nil] = page.after?.split(" ") ?? [];
  const { org, project } = owner;
  const rows = await db.query(selectPage, [
    idToUuid(org),
    project === undefined ? null : idToUuid(project),
    ...[page.endAfterMs, startMs, id, page.limit],
  ]);
  return rows.map(toReservation);
}

/** Stores a new reservation. */
export async function insertReservation(tx: Querier, of: StoredReservation): Promise<void> {
  const { id, org, project, displayName, gpus, models, startMs, endMs, creator, createdMs } = of;
  await tx.query(insert, [
    ...[idToUuid(id), idToUuid(org), idToUuid(project ?? org), displayName, gpus, models],
    ...[startMs, endMs, creator, createdMs, of.perNode ?? 0],
  ]);
}

/** Stores what may change of a reservation. */
export async function storeReservation(tx: Querier, of: StoredReservation): Promise<void> {
  const { id, displayName, gpus, models, startMs, endMs, updatedMs } = of;
  await tx.query(update, [
    ...[idToUuid(id), displayName, gpus, models, startMs, endMs, updatedMs, of.perNode ?? 0],
  ]);
}

/** Removes a reservation. */
export async function removeReservation(tx: Querier, id: ReservationId): Promise<void> {
  await tx.query(remove, [idToUuid(id)]);
}

/** Removes reservations that ended before a time, at most so many; answers how many. */
export async function pruneReservations(
  db: Querier,
  of: { endedBeforeMs: number; limit: number },
): Promise<number> {
  return (await db.query(prune, [of.endedBeforeMs, of.limit])).length;
}

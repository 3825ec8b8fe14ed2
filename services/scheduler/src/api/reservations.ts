import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  ReservationState,
  type ReservationSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId, type ReservationId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import type { PlanReservation } from "@fastgpu/scheduling/plan";
import type { ReservationOwner, StoredReservation } from "../store/fleet-reservations.ts";
import type { HeldGpus } from "../store/queues.ts";

type ReservationInit = Exclude<MessageInitShape<typeof ReservationSchema>, { $typeName: string }>;

const listHint = "`fastgpu reservation list` shows them";

/** Whose reservations a resource name is of; the interceptor has checked its organisation and project. */
export function reservationOwnerOf(name: string, context: CallContext): ReservationOwner {
  const org = parseId("org", context.scope.org ?? "");
  const project = parseId("proj", context.scope.project ?? "");
  if (org === undefined || (project === undefined && name.startsWith("projects/"))) {
    throw Fault.notFound(name, listHint);
  }
  return { org, project: name.startsWith("projects/") ? project : undefined };
}

/** The reservation of `{owner}/reservations/{reservation}`. A malformed id is one that does not exist. */
export function reservationIdOf(name: string): ReservationId {
  const id = parseId("resv", name.split("/")[3] ?? "");
  if (id === undefined) throw Fault.notFound(name, listHint);
  return id;
}

/** A reservation that is not there, or not the caller's. */
export const noReservation = (name: string): Fault => Fault.notFound(name, listHint);

/** Resource name, by its owner. */
export function reservationName({ org, project, id }: PlanReservation): string {
  return `${project === undefined ? `organizations/${org}` : `projects/${project}`}/reservations/${id}`;
}

/** What of a reservation does not change with time. */
export function reservationInit(of: StoredReservation): ReservationInit {
  return {
    name: reservationName(of),
    displayName: of.displayName,
    gpus: of.gpus,
    perNode: of.perNode ?? 0,
    models: [...of.models],
    startTime: timestampFromMs(of.startMs),
    endTime: timestampFromMs(of.endMs),
    creator: of.creator,
    createTime: timestampFromMs(of.createdMs),
    updateTime: timestampFromMs(of.updatedMs),
  };
}

/** A reservation as clients see it, with what its owner holds. */
export function reservationMessage(
  of: StoredReservation,
  at: { nowMs: number; held: HeldGpus | undefined },
): ReservationInit {
  const held = Object.entries(at.held?.models ?? {});
  const covered = held.filter(([model]) => of.models.length === 0 || of.models.includes(model));
  return {
    ...reservationInit(of),
    state: stateOf(of, at.nowMs),
    heldGpus: covered.reduce((sum, [, gpus]) => sum + gpus, 0),
  };
}

function stateOf({ startMs, endMs }: StoredReservation, nowMs: number): ReservationState {
  if (endMs <= nowMs) return ReservationState.ENDED;
  return startMs <= nowMs ? ReservationState.ACTIVE : ReservationState.UPCOMING;
}

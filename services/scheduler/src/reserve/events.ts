import { ReservationChange } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { newEvent, topics } from "@fastgpu/events/topics";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import type { CallContext } from "@fastgpu/rpc/context";
import { reservationInit, reservationName } from "../api/reservations.ts";
import type { StoredReservation } from "../store/fleet-reservations.ts";
import { auditFact } from "../transition/events.ts";

/** What a change of a reservation tells: the change itself, and for the audit log who made it. */
export function reservationEvents(
  of: StoredReservation,
  change: "CREATED" | "UPDATED" | "DELETED",
  at: { context: CallContext; nowMs: number },
): NewEvent[] {
  const facts = {
    aggregateRevision: BigInt(of.revision),
    occurredMs: at.nowMs,
    org: of.org,
    ...(of.project === undefined ? {} : { project: of.project }),
    traceparent: at.context.traceparent,
  };
  const resource = reservationName(of);
  return [
    newEvent(
      topics.reservationChanged,
      { reservation: reservationInit(of), change: ReservationChange[change] },
      { ...facts, aggregate: of.id },
    ),
    newEvent(topics.auditRecorded, auditFact(at.context, resource), {
      ...facts,
      aggregate: resource,
    }),
  ];
}

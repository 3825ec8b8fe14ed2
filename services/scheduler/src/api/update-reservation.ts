import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ReservationSchema,
  UpdateReservationRequest,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { checkReservation } from "../reserve/check.ts";
import { reservationEvents } from "../reserve/events.ts";
import { changedReservation } from "../reserve/parse.ts";
import type { Scheduler } from "../scheduler.ts";
import {
  lockReservations,
  readReservation,
  storeReservation,
  type StoredReservation,
} from "../store/fleet-reservations.ts";
import { countHeldGpus } from "../store/queues.ts";
import {
  noReservation,
  reservationIdOf,
  reservationMessage,
  reservationOwnerOf,
} from "./reservations.ts";

/** Changes the named fields of a reservation. */
export async function updateReservation(
  s: Scheduler,
  { reservation, updateMask }: UpdateReservationRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ReservationSchema>> {
  if (reservation === undefined) throw Fault.invalid("reservation", "is required");
  const { name } = reservation;
  const owner = reservationOwnerOf(name, context);
  const id = reservationIdOf(name);
  const nowMs = s.clock.nowMs();
  const operator = context.principal.role === "platform_operator";
  const paths = [...new Set(updateMask?.paths ?? [])];
  const updated = await transaction(s.core, async (tx) => {
    await lockReservations(tx);
    const before = await readReservation(tx, owner, id);
    if (before === undefined) throw noReservation(name);
    const asked = changedReservation(before, { reservation, paths }, nowMs);
    const revision = before.revision + 1;
    const after: StoredReservation = { ...before, ...asked, revision, updatedMs: nowMs };
    await checkReservation(tx, after, { nowMs, operator, before });
    await storeReservation(tx, after);
    await appendEvents(tx, reservationEvents(after, "UPDATED", { context, nowMs }));
    const [held] = await countHeldGpus(tx, [{ ...after, user: undefined }]);
    return reservationMessage(after, { nowMs, held });
  });
  s.changed({ tasks: [], nodes: [] });
  return updated;
}

import type { DeleteReservationRequest } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { reservationEvents } from "../reserve/events.ts";
import type { Scheduler } from "../scheduler.ts";
import {
  lockReservations,
  readReservation,
  removeReservation,
} from "../store/fleet-reservations.ts";
import { noReservation, reservationIdOf, reservationOwnerOf } from "./reservations.ts";

/** Gives a reservation up. */
export async function deleteReservation(
  s: Scheduler,
  { name }: DeleteReservationRequest,
  context: CallContext,
): Promise<Record<string, never>> {
  const owner = reservationOwnerOf(name, context);
  const id = reservationIdOf(name);
  const nowMs = s.clock.nowMs();
  await transaction(s.core, async (tx) => {
    await lockReservations(tx);
    const found = await readReservation(tx, owner, id);
    if (found === undefined) throw noReservation(name);
    await removeReservation(tx, id);
    const gone = { ...found, revision: found.revision + 1 };
    await appendEvents(tx, reservationEvents(gone, "DELETED", { context, nowMs }));
  });
  s.changed({ tasks: [], nodes: [] });
  return {};
}

import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetReservationRequest,
  ReservationSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { readReservation } from "../store/fleet-reservations.ts";
import { countHeldGpus } from "../store/queues.ts";
import {
  noReservation,
  reservationIdOf,
  reservationMessage,
  reservationOwnerOf,
} from "./reservations.ts";
import { inTenant, tenantOfOwner } from "./in-tenant.ts";

/** Reads a reservation. */
export async function getReservation(
  s: Scheduler,
  { name }: GetReservationRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ReservationSchema>> {
  const owner = reservationOwnerOf(name, context);
  const id = reservationIdOf(name);
  return inTenant(s, tenantOfOwner(owner), async (tx) => {
    const found = await readReservation(tx, owner, id);
    if (found === undefined) throw noReservation(name);
    const [held] = await countHeldGpus(tx, [{ ...found, user: undefined }]);
    return reservationMessage(found, { nowMs: s.clock.nowMs(), held });
  });
}

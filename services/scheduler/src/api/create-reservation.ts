import {
  CreateReservationRequestSchema,
  ReservationSchema,
  type CreateReservationRequest,
  type Reservation,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { once } from "@fastgpu/postgres/once";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { newId } from "../new-id.ts";
import { checkReservation } from "../reserve/check.ts";
import { reservationEvents } from "../reserve/events.ts";
import { parseReservation } from "../reserve/parse.ts";
import type { Scheduler } from "../scheduler.ts";
import { insertReservation, type StoredReservation } from "../store/fleet-reservations.ts";
import { countHeldGpus } from "../store/queues.ts";
import { reservationMessage, reservationOwnerOf } from "./reservations.ts";

/** Reserves GPUs. */
export async function createReservation(
  s: Scheduler,
  request: CreateReservationRequest,
  context: CallContext,
): Promise<Reservation> {
  const { principal, method } = context;
  const owner = reservationOwnerOf(request.parent, context);
  const nowMs = s.clock.nowMs();
  const wanted: StoredReservation = {
    ...{ id: newId("resv", nowMs), ...owner, ...parseReservation(request.reservation, nowMs) },
    creator: principal.onBehalfOf ?? principal.id,
    ...{ revision: 1, createdMs: nowMs, updatedMs: nowMs },
  };
  const operator = principal.role === "platform_operator";
  const created = await transaction(s.core, async (tx) => {
    const [held] = await countHeldGpus(tx, [{ ...owner, user: undefined }]);
    const call = {
      ...{ org: owner.org, method, requestId: request.requestId, nowMs },
      request: { schema: CreateReservationRequestSchema, message: request },
      response: { schema: ReservationSchema, message: reservationMessage(wanted, { nowMs, held }) },
    };
    return once(tx, call, async () => {
      await checkReservation(tx, wanted, { nowMs, operator, before: undefined });
      await insertReservation(tx, wanted);
      await appendEvents(tx, reservationEvents(wanted, "CREATED", { context, nowMs }));
    });
  });
  s.changed({ tasks: [], nodes: [] });
  return created;
}

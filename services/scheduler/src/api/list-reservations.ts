import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ListReservationsRequest,
  ListReservationsResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import type { CallContext } from "@fastgpu/rpc/context";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { cursorOfReservation, listReservations as readPage } from "../store/fleet-reservations.ts";
import { countHeldGpus } from "../store/queues.ts";
import { reservationMessage, reservationOwnerOf } from "./reservations.ts";
import { inTenant, tenantOfOwner } from "./in-tenant.ts";

/** Lists reservations by start. */
export async function listReservations(
  s: Scheduler,
  request: ListReservationsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListReservationsResponseSchema>> {
  const { parent, showEnded } = request;
  const owner = reservationOwnerOf(parent, context);
  const query = ["ListReservations", parent, showEnded];
  const size = pageSize(request.pageSize);
  const after = s.pageTokens.read(query, request.pageToken);
  const nowMs = s.clock.nowMs();
  return inTenant(s, tenantOfOwner(owner), async (tx) => {
    const endAfterMs = showEnded ? -1 : nowMs;
    const rows = await readPage(tx, owner, { endAfterMs, after, limit: size + 1 });
    const tokens = s.pageTokens;
    const page = cutPage(rows, { size, tokens, query, cursorOf: cursorOfReservation });
    const held = await countHeldGpus(
      tx,
      page.rows.map((row) => ({ ...row, user: undefined })),
    );
    return {
      reservations: page.rows.map((row, at) => reservationMessage(row, { nowMs, held: held[at] })),
      nextPageToken: page.nextPageToken,
    };
  });
}

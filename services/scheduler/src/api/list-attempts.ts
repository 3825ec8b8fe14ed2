import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ListAttemptsRequest,
  ListAttemptsResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { listAttemptsOf, readAttempts } from "../store/attempts.ts";
import { taskOf, tenantOf } from "./names.ts";
import { attemptBytes, rowsWithin } from "./page-weight.ts";
import { inTenant } from "./in-tenant.ts";
import { readTaskOf } from "./read-task.ts";
import { attemptToWire } from "./attempt-wire.ts";
import { readMemberPlaces } from "./task-wire.ts";

/** Lists the attempts of a task, oldest first. */
export async function listAttempts(
  s: Scheduler,
  request: ListAttemptsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListAttemptsResponseSchema>> {
  const tenant = tenantOf(context);
  const id = taskOf(request.parent);
  const task = await readTaskOf(s, tenant, { id, name: request.parent });
  const query = ["ListAttempts", request.parent];
  const size = pageSize(request.pageSize);
  const [epoch, after] = s.pageTokens.read(query, request.pageToken)?.split(" ") ?? [];
  const rows = await inTenant(s, tenant, (tx) =>
    listAttemptsOf(tx, id, {
      afterEpoch: Number(epoch ?? -1),
      afterId: parseId("att", after ?? ""),
      limit: size + 1,
    }),
  );
  const page = cutPage(rows, {
    size: rowsWithin(rows, size, () => attemptBytes(task)),
    tokens: s.pageTokens,
    query,
    cursorOf: (attempt) => `${attempt.epoch} ${attempt.id}`,
  });
  const ids = page.rows.map((attempt) => attempt.id);
  const places = await readMemberPlaces(s.core, ids);
  const members = Map.groupBy(await readAttempts(s.core, ids), (attempt) => attempt.id);
  return {
    attempts: page.rows.map((attempt) => {
      const [first = attempt, ...others] = members.get(attempt.id) ?? [];
      return attemptToWire([first, ...others], places);
    }),
    nextPageToken: page.nextPageToken,
  };
}

import type {
  ListTasksRequest,
  ListTasksResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { idToUuid, parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import { cutPage } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { listTasks as readPage, type StoredTask } from "../store/tasks.ts";
import { parseFilter } from "./filter.ts";
import { tenantOf } from "./names.ts";
import { inTenant } from "./in-tenant.ts";
import { readCosts, readGpuTimes } from "./read-task.ts";
import { rowsWithin, taskBytes } from "./page-weight.ts";
import { noPlace, readPlaces, taskToWire } from "./task-wire.ts";

const defaultPageSize = 50;

/** Lists a project's tasks by time of creation. */
export async function listTasks(
  s: Scheduler,
  request: ListTasksRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListTasksResponseSchema>> {
  const tenant = tenantOf(context);
  const order = parseOrder(request.orderBy);
  const query = ["ListTasks", request.parent, request.filter, order];
  const cursor = readCursor(s.pageTokens.read(query, request.pageToken));
  const size = request.pageSize || defaultPageSize;

  const values: unknown[] = [idToUuid(tenant.project)];
  const where = ["project_id = $1"];
  if (cursor !== undefined) {
    values.push(cursor.createdMs, cursor.uuid);
    where.push(`(created_ms, id) ${order === "asc" ? ">" : "<"} ($2, $3)`);
  }
  const filter = parseFilter(request.filter, values.length + 1);
  if (filter.text !== "") where.push(filter.text);
  const rows = await inTenant(s, tenant, (tx) =>
    readPage(tx, {
      where: where.join(" and "),
      order,
      values: [...values, ...filter.values],
      limit: size + 1,
    }),
  );
  const cursorOf = (task: StoredTask): string => `${task.createdMs} ${task.id}`;
  const fitting = rowsWithin(rows, size, taskBytes);
  const page = cutPage(rows, { size: fitting, tokens: s.pageTokens, query, cursorOf });
  const places = await readPlaces(
    s.core,
    page.rows.flatMap((task) => task.attempt ?? []),
  );
  const costs = await readCosts(s, page.rows, context);
  const gpuTimes = await readGpuTimes(s, page.rows);
  return {
    tasks: page.rows.map((task) =>
      taskToWire(task, {
        ...((task.attempt === undefined ? undefined : places.get(task.attempt)) ?? noPlace),
        cost: costs.get(task.id),
        gpuMs: gpuTimes.get(task.id),
      }),
    ),
    nextPageToken: page.nextPageToken,
  };
}

function parseOrder(orderBy: string): "asc" | "desc" {
  const text = orderBy.trim().replaceAll(/\s+/g, " ");
  if (text === "" || text === "create_time desc") return "desc";
  if (text === "create_time" || text === "create_time asc") return "asc";
  throw Fault.invalid("order_by", "must be create_time or create_time desc");
}

function readCursor(cursor: string | undefined): { createdMs: number; uuid: string } | undefined {
  if (cursor === undefined) return undefined;
  const [ms, id] = cursor.split(" ");
  const task = parseId("task", id ?? "");
  if (task === undefined) throw Fault.invalid("page_token", "is not a token of this list");
  return { createdMs: Number(ms), uuid: idToUuid(task) };
}

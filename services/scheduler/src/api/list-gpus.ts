import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ListGpusRequest,
  ListGpusResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { readAttempts, type StoredAttempt } from "../store/attempts.ts";
import { listGpus as readPage } from "../store/nodes.ts";
import { nodeOf } from "./names.ts";
import { gpuStateToWire } from "./wire-states.ts";

/** Lists GPUs by node and index. */
export async function listGpus(
  s: Scheduler,
  request: ListGpusRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListGpusResponseSchema>> {
  const node = ["", "nodes/-"].includes(request.parent) ? undefined : nodeOf(request.parent);
  const query = ["ListGpus", request.parent];
  const size = pageSize(request.pageSize);
  const [after, index] = s.pageTokens.read(query, request.pageToken)?.split(" ") ?? [];
  const rows = await readPage(s.core, {
    node,
    afterNode: parseId("node", after ?? ""),
    afterIndex: Number(index ?? -1),
    limit: size + 1,
  });
  const page = cutPage(rows, {
    size,
    tokens: s.pageTokens,
    query,
    cursorOf: (gpu) => `${gpu.node} ${gpu.index}`,
  });
  const holders = await readAttempts(
    s.core,
    page.rows.flatMap((gpu) => gpu.attempt ?? []),
  );
  const holderOf = new Map(holders.map((attempt) => [attempt.id, attempt]));
  return {
    gpus: page.rows.map((gpu) => ({
      name: `nodes/${gpu.node}/gpus/${gpu.id}`,
      index: gpu.index,
      uuid: gpu.uuid,
      model: gpu.model,
      memoryMib: BigInt(gpu.memoryMib),
      simulated: gpu.simulated,
      state: gpuStateToWire(gpu.state),
      task: visibleTask(gpu.attempt === undefined ? undefined : holderOf.get(gpu.attempt), context),
    })),
    nextPageToken: page.nextPageToken,
  };
}

/** Who holds a GPU is shown to the holder's own organisation, and to operators. */
function visibleTask(holder: StoredAttempt | undefined, { principal }: CallContext): string {
  if (holder === undefined) return "";
  const own =
    principal.org === holder.org && (principal.project ?? holder.project) === holder.project;
  return own || principal.role === "platform_operator"
    ? `projects/${holder.project}/tasks/${holder.task}`
    : "";
}

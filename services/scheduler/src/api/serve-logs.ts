import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ServeLogsRequest,
  ServeLogsResponseSchema,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { callingNode } from "./connect.ts";

/** A worker's log stream: requests for ranges go out, answers come in. */
export function serveLogs(
  s: Scheduler,
  answers: AsyncIterable<ServeLogsRequest>,
  context: CallContext,
): AsyncIterable<MessageInitShape<typeof ServeLogsResponseSchema>> {
  return s.logs.serve(callingNode(context), answers, context.signal);
}

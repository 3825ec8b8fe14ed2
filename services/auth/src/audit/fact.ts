import type { CallContext } from "@fastgpu/rpc/context";
import type { AuditFact } from "./chain.ts";

/** The fact that a call changed something. `resource` is the name of what it changed. */
export function factOf(
  context: Pick<CallContext, "principal" | "method" | "requestId">,
  change: { readonly nowMs: number; readonly resource: string; readonly project?: string },
): AuditFact {
  const { id, onBehalfOf } = context.principal;
  return {
    timeMs: change.nowMs,
    principal: onBehalfOf === undefined ? id : `${onBehalfOf} via ${id}`,
    method: context.method,
    resource: change.resource,
    project: change.project ?? "",
    requestId: context.requestId,
    deniedCalls: 0,
  };
}

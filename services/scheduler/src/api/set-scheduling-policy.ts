import type {
  SchedulingPolicy,
  SetSchedulingPolicyRequest,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { readPolicy } from "../policy/read-policy.ts";
import { setPolicy } from "../policy/set-policy.ts";
import type { Scheduler } from "../scheduler.ts";
import { lockPolicy, readPolicyFile, readStoredPolicy } from "../store/policies.ts";
import { policyMessage } from "./policies.ts";

/** Checks a policy and sets it. The leader sees it with its next look, within a second. */
export async function setSchedulingPolicy(
  s: Scheduler,
  request: SetSchedulingPolicyRequest,
  context: CallContext,
): Promise<SchedulingPolicy> {
  const { source } = request;
  const name = request.sourceName === "" ? "policy" : request.sourceName;
  const policy = readPolicy(source, name);
  if (request.validateOnly) {
    const [stored, file] = [await readStoredPolicy(s.core), await readPolicyFile(s.core)];
    return { ...policyMessage({ stored, policy, file }), source };
  }
  const { principal, method, requestId, traceparent } = context;
  const message = await transaction(s.core, async (tx) => {
    const file = await lockPolicy(tx);
    const stored = await setPolicy(tx, {
      ...{ source, origin: "call", updatedBy: principal.id, createdMs: s.clock.nowMs() },
      expectedRevision: Number(request.expectedRevision),
      audit: { principal: principal.id, method, requestId },
      traceparent,
    });
    return policyMessage({ stored, policy, file });
  });
  s.changed({ tasks: [], nodes: [] });
  return message;
}

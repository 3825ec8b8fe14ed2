import type { SchedulingPolicy } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { readPolicyInForce } from "../policy/follow.ts";
import type { Scheduler } from "../scheduler.ts";
import { readPolicyFile, readStoredPolicy } from "../store/policies.ts";
import { policyMessage } from "./policies.ts";

/** The policy that is in force, from any replica. */
export async function getSchedulingPolicy(s: Scheduler): Promise<SchedulingPolicy> {
  const stored = await readStoredPolicy(s.core);
  const { policy } = await readPolicyInForce(s.core);
  return policyMessage({ stored, policy, file: await readPolicyFile(s.core) });
}

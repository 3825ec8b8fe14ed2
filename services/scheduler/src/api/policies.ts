import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type SchedulingPolicy as PolicyMessage,
  SchedulingPolicySchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { originOf } from "../policy/set-policy.ts";
import type { StoredPolicy, StoredPolicyFile } from "../store/policies.ts";

/** A policy on the wire. */
export function policyMessage(of: {
  stored: StoredPolicy | undefined;
  policy: SchedulingPolicy;
  file: StoredPolicyFile;
}): PolicyMessage {
  const { stored, policy, file } = of;
  return create(SchedulingPolicySchema, {
    revision: BigInt(stored?.revision ?? 0),
    source: stored?.source ?? "",
    // Plain numbers, words and switches: what JSON has too.
    effective: JSON.parse(JSON.stringify(policy)) as JsonObject,
    origin: originOf(stored),
    updatedBy: stored?.updatedBy ?? "",
    ...(stored === undefined ? {} : { updateTime: timestampFromMs(stored.createdMs) }),
    fileProblem: file.problem,
    ...(file.problem === "" ? {} : { fileProblemTime: timestampFromMs(file.seenMs) }),
  });
}

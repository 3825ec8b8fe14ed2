import { PolicyOrigin } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { newEvent, topics } from "@fastgpu/events/topics";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import { insertPolicy, readPolicyRevision, type StoredPolicy } from "../store/policies.ts";

/** Name of the one policy of a platform, in events and in the audit log. */
export const policyResource = "schedulingPolicy";

/** Who sets a policy, and how. */
export interface PolicyChange extends Omit<StoredPolicy, "revision"> {
  /** The revision that it is to replace; 0: any. Throws STALE_ETAG where it is another. */
  readonly expectedRevision: number;
  /** For the audit log. */
  readonly audit: {
    readonly principal: string;
    readonly method: string;
    readonly requestId: string;
  };
  readonly traceparent: string;
}

/** Writes a checked policy with its event and its audit fact; the transaction holds the lock of the policy. */
export async function setPolicy(tx: Tx, change: PolicyChange): Promise<StoredPolicy> {
  const { expectedRevision, audit, traceparent, ...rest } = change;
  const before = await readPolicyRevision(tx);
  if (expectedRevision !== 0 && expectedRevision !== before) {
    throw new Fault("STALE_ETAG", `the policy has revision ${before}, not ${expectedRevision}`, {
      hint: "read it again (fastgpu scheduler policy show), and set it on top of what it is now",
    });
  }
  const stored: StoredPolicy = { ...rest, revision: before + 1 };
  await insertPolicy(tx, stored);
  const { revision, updatedBy, createdMs: occurredMs } = stored;
  const about = {
    ...{ aggregate: policyResource, aggregateRevision: BigInt(revision), occurredMs, traceparent },
  };
  const changed = { revision: BigInt(revision), origin: originOf(stored), updatedBy };
  await appendEvents(tx, [
    newEvent(topics.schedulingPolicyChanged, changed, about),
    newEvent(topics.auditRecorded, { ...audit, resource: policyResource }, about),
  ]);
  return stored;
}

/** How a policy came in, on the wire. */
export function originOf(stored: StoredPolicy | undefined): PolicyOrigin {
  if (stored === undefined) return PolicyOrigin.DEFAULT;
  return stored.origin === "file" ? PolicyOrigin.FILE : PolicyOrigin.CALL;
}

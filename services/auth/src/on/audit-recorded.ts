import type { OrgId } from "@fastgpu/domain/ids";
import { on } from "@fastgpu/events/consumer";
import type { EventHandler } from "@fastgpu/events/consumer";
import { topics } from "@fastgpu/events/topics";
import type { AuditFact } from "../audit/chain.ts";
import { appendAudit, platformChain } from "../store/audit-events.ts";

/** Chains the audit facts of another service, each at most once: the inbox's position lies in the same transaction. */
export function onAuditRecorded(): EventHandler {
  return on(topics.auditRecorded, async (tx, received) => {
    const byOrg = new Map<OrgId, AuditFact[]>();
    for (const { event, payload } of received) {
      const org = event.org ?? platformChain;
      const facts = byOrg.get(org) ?? [];
      byOrg.set(org, facts);
      facts.push({
        timeMs: event.occurredMs,
        principal: payload.principal,
        method: payload.method,
        resource: payload.resource,
        project: event.project ?? "",
        requestId: payload.requestId,
        deniedCalls: payload.deniedCalls,
      });
    }
    for (const org of [...byOrg.keys()].toSorted()) {
      await appendAudit(tx, org, byOrg.get(org) ?? []);
    }
  });
}

import { newEvent, topics } from "@fastgpu/events/topics";
import type { ApiKeyService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { factOf } from "../audit/fact.ts";
import { tenantOf } from "../caller.ts";
import { keyOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { getApiKey, revokeApiKey as revoke } from "../store/api-keys.ts";
import { appendAudit } from "../store/audit-events.ts";
import { apiKeyMessage } from "./messages.ts";

/** Revokes a key. A repeat answers the same and records nothing more. */
export function revokeApiKey(parts: AuthParts): Handler<typeof ApiKeyService.method.revokeApiKey> {
  return async (request, context) => {
    const nowMs = parts.clock.nowMs();
    const { org, key: keyId } = keyOfName(request.name);
    const revoked = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      const changed = await revoke(tx, keyId, nowMs);
      if (changed === undefined) return getApiKey(tx, keyId);
      await appendEvents(tx, [
        newEvent(
          topics.apiKeyRevoked,
          { apiKey: keyId },
          {
            aggregate: keyId,
            aggregateRevision: 2n,
            occurredMs: nowMs,
            org,
            traceparent: context.traceparent,
          },
        ),
      ]);
      const project = changed.projectId ?? "";
      await appendAudit(tx, org, [factOf(context, { nowMs, resource: request.name, project })]);
      return changed;
    });
    if (revoked === undefined) throw Fault.notFound(request.name);
    parts.wakeRelay();
    parts.tellRevoked(keyId);
    return apiKeyMessage(revoked);
  };
}

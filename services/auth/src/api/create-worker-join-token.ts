import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { WorkerIdentityService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { callerOrg } from "../caller.ts";
import type { AuthParts } from "../parts.ts";
import { inviteWorker } from "../workers.ts";

/** Makes a join token. The table belongs to the platform's workers, so it goes round row-level security. */
export function createWorkerJoinToken(
  parts: AuthParts,
): Handler<typeof WorkerIdentityService.method.createWorkerJoinToken> {
  return async (_request, context) => {
    const { joinToken, expiresMs } = await inviteWorker(parts.db.core, {
      master: parts.master,
      nowMs: parts.clock.nowMs(),
      org: callerOrg(context),
      invitedBy: context.principal.id,
      requestId: context.requestId,
    });
    return { joinToken, expireTime: timestampFromMs(expiresMs) };
  };
}

import type { WorkerIdentityService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { plainText } from "@fastgpu/domain/text";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { AuthParts } from "../parts.ts";
import { joinWorker as join } from "../workers.ts";

/** Registers a worker. Whoever calls has no identity yet but the token. */
export function joinWorker(
  parts: AuthParts,
): Handler<typeof WorkerIdentityService.method.joinWorker> {
  return async (request, context) => ({
    node: await join(parts.db.core, {
      master: parts.master,
      nowMs: parts.clock.nowMs(),
      joinToken: request.joinToken,
      publicKey: request.publicKey,
      displayName: plainText("display_name", request.displayName),
      requestId: context.requestId,
    }),
  });
}

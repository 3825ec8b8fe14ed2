import type { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { AuthParts } from "../parts.ts";

/** The keys that verify tokens. */
export function getJwks(parts: AuthParts): Handler<typeof TokenService.method.getJwks> {
  return async () => ({ jwksJson: await parts.signing.jwksJson() });
}

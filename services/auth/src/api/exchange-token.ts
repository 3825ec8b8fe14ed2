import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Handler } from "@fastgpu/rpc/handlers";
import { signAccessToken, tokenNames } from "@fastgpu/rpc/tokens";
import type { AccessClaims } from "@fastgpu/rpc/tokens";
import { apiKeyMac, parseApiKey, sameMac } from "../keys/api-key.ts";
import { organizationName, projectName } from "../names.ts";
import { keyPurposes } from "../parts.ts";
import type { AuthParts } from "../parts.ts";
import { getApiKey } from "../store/api-keys.ts";
import type { ApiKey } from "../store/api-keys.ts";
import { listProjects } from "../store/projects.ts";
import { verifyAssertion } from "../tokens/assertion.ts";

/** Turns an API key or a worker's assertion into a token of at most 15 minutes. */
export function exchangeToken(parts: AuthParts): Handler<typeof TokenService.method.exchangeToken> {
  return async (request) => {
    const nowMs = parts.clock.nowMs();
    const { case: kind, value } = request.credential;
    if (kind === "workerAssertion") {
      const nodeId = await verifyAssertion(parts.db.core, { assertion: value, nowMs });
      return answer(parts, { claims: { sub: nodeId, role: "worker" }, nowMs });
    }
    if (kind !== "apiKey") throw Fault.invalid("credential", "is required");
    const key = await findKey(parts, value, nowMs);
    const { keyId, orgId, projectId, role } = key;
    const claims = {
      sub: keyId,
      org: orgId,
      role,
      ...(projectId === undefined ? {} : { project: projectId }),
    };
    const [first] =
      projectId === undefined
        ? await listProjects(parts.db.core, { orgId, after: undefined, limit: 1 })
        : [];
    const project = projectId ?? first?.projectId;
    const endsMs = key.expiresMs;
    return {
      ...(await answer(parts, { claims, nowMs, ...(endsMs === undefined ? {} : { endsMs }) })),
      organization: organizationName(orgId),
      project: project === undefined ? "" : projectName(project),
    };
  };
}

async function answer(
  parts: AuthParts,
  of: { claims: AccessClaims; nowMs: number; endsMs?: number },
) {
  const key = await parts.signing.current();
  const { claims, nowMs } = of;
  // A token never outlives its key.
  const ttlMs = Math.min(tokenNames.accessTtlMs, (of.endsMs ?? Number.POSITIVE_INFINITY) - nowMs);
  return {
    accessToken: await signAccessToken({ key, claims, nowMs, ttlMs }),
    expireTime: timestampFromMs((Math.floor(nowMs / 1000) + Math.floor(ttlMs / 1000)) * 1000),
    principal: claims.sub,
    role: claims.role,
  };
}

/** The key of a text. An unknown id and a wrong secret are answered alike. */
async function findKey(parts: AuthParts, text: string, nowMs: number): Promise<ApiKey> {
  const parsed = parseApiKey(text);
  if (parsed.kind === "malformed") {
    throw new Fault("UNAUTHENTICATED", "the API key is malformed", {
      hint:
        parsed.why === "checksum"
          ? "a character is wrong or missing: copy the whole key again"
          : "a key looks like fgpu_<env>_<id>_<secret>_<crc>",
    });
  }
  if (parsed.parts.env !== parts.env) {
    throw new Fault("UNAUTHENTICATED", "the API key belongs to another installation", {
      hint: `it is for "${parsed.parts.env}", this is "${parts.env}"`,
    });
  }
  const mac = apiKeyMac(parts.master.derive(keyPurposes.apiKeys), parsed.parts);
  const key = await getApiKey(parts.db.core, parsed.parts.keyId);
  if (key === undefined || !sameMac(key.mac, mac)) {
    throw new Fault("UNAUTHENTICATED", "the API key is unknown", {
      hint: "create one: fastgpu key create",
    });
  }
  if (key.revokedMs !== undefined) {
    throw new Fault("TOKEN_EXPIRED", "the API key was revoked", { hint: "use another key" });
  }
  if (key.expiresMs !== undefined && key.expiresMs <= nowMs) {
    throw new Fault("TOKEN_EXPIRED", "the API key has expired", { hint: "use another key" });
  }
  return key;
}

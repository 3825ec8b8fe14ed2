import { randomBytes } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { newId } from "@fastgpu/domain/ids";
import type { ApiKeyId, Id, IdPrefix } from "@fastgpu/domain/ids";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Database } from "@fastgpu/postgres/database";
import type { PageTokens } from "@fastgpu/rpc/page-token";
import type { SigningKeys } from "./tokens/signing-keys.ts";

/** What every handler of the service works with. */
export interface AuthParts {
  readonly db: Database;
  readonly master: MasterKey;
  readonly clock: Clock;
  /** See the configuration. */
  readonly env: string;
  readonly signing: SigningKeys;
  readonly pageTokens: PageTokens;
  /** Called after a commit that appended events. */
  wakeRelay(): void;
  /** Tells everybody who verifies tokens, at once, that a key was revoked; a lost message costs 15 minutes. */
  tellRevoked(keyId: ApiKeyId): void;
}

/** Purposes for which keys are derived from the master key. */
export const keyPurposes = { apiKeys: "auth/api-keys", joinTokens: "auth/join-tokens" } as const;

/** A fresh id. */
export function freshId<P extends IdPrefix>(prefix: P, nowMs: number): Id<P> {
  return newId(prefix, nowMs, randomBytes(10));
}

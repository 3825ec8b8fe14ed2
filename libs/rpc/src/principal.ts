import type { Role } from "@fastgpu/domain/roles";

/** Who makes a call. */
export interface Principal {
  /** `anonymous` appears only in methods that are declared public. */
  readonly kind: "user" | "worker" | "service" | "anonymous";
  /** `key-…`, `user-…`, `node-…`, or `service:scheduler`. */
  readonly id: string;
  /** Organisation id (`org-…`); absent for workers, services and the anonymous. */
  readonly org?: string;
  /** The one project (`proj-…`) that the credential is bound to; absent: the whole organisation. */
  readonly project?: string;
  readonly role: Role | "anonymous";
  /** The principal's id for whom a service acts, where it does. */
  readonly onBehalfOf?: string;
  /** When its token ends, in milliseconds since the epoch; a stream that outlives it is closed. */
  readonly expiresAtMs?: number;
}

/** The caller of a public method that sent no credential. */
export const anonymous: Principal = { kind: "anonymous", id: "anonymous", role: "anonymous" };

/** What a call acts on, as its request named it and the directory resolved it. */
export interface Scope {
  /** Organisation id; the caller's own where the request names none. */
  readonly org?: string;
  /** Project id; the caller's bound project where the request names none. */
  readonly project?: string;
}

import { randomBytes } from "node:crypto";
import { newId } from "@fastgpu/domain/ids";
import type { Id, IdPrefix, OrgId, ProjectId } from "@fastgpu/domain/ids";

/** A fresh id with random bits, made at the given time. */
export function anId<P extends IdPrefix>(prefix: P, nowMs: number = Date.UTC(2026, 0, 1)): Id<P> {
  return newId(prefix, nowMs, randomBytes(10));
}

/** A tenant that nobody else has. */
export function aTenant(): { readonly org: OrgId; readonly project: ProjectId } {
  return { org: anId("org"), project: anId("proj") };
}

import { permissionsOfRole } from "@fastgpu/domain/roles";
import type { Principal, Scope } from "./principal.ts";

/** What a resource name begins with: a project or an organisation. */
export interface ResourceRef {
  readonly kind: "project" | "organization";
  /** The id, as written. */
  readonly id: string;
}

/** The project or organisation that a resource name begins with, or undefined where it begins with neither. */
export function parseResource(name: string): ResourceRef | undefined {
  const [collection, id] = name.split("/", 2);
  if (id === undefined || id === "") return undefined;
  if (collection === "projects") return { kind: "project", id };
  if (collection === "organizations") return { kind: "organization", id };
  return undefined;
}

/** One decision to make: may this principal use this permission on that resource? */
export interface AccessRequest {
  readonly principal: Principal;
  /** Permission that the method declares, for example `tasks.create`. */
  readonly permission: string;
  /** What the request names; undefined where the method declares no resource. */
  readonly resource: ResourceRef | undefined;
  /** The organisation of the named project, as the directory knows it; undefined where it knows no such project. */
  readonly projectOrg: string | undefined;
}

/** Allowed, with what the call then acts on; or denied, with the reason for our own log only. */
export type AccessDecision =
  | { readonly kind: "allowed"; readonly scope: Scope }
  | { readonly kind: "denied"; readonly because: "permission" | "tenant" | "project" };

/** Whether the principal's role holds the permission at all. */
export function holdsPermission(principal: Principal, permission: string): boolean {
  return principal.role !== "anonymous" && permissionsOfRole[principal.role].has(permission);
}

/**
 * The whole of authorisation. A role gives permissions; a user uses them within the own organisation, a project-bound
 * one within its project; the operator everywhere; services are trusted with what their role holds. A project that is
 * foreign and one that does not exist are denied alike, so that nothing can be learnt from the difference.
 */
export function decideAccess(request: AccessRequest): AccessDecision {
  const { principal, resource } = request;
  if (!holdsPermission(principal, request.permission))
    return { kind: "denied", because: "permission" };
  const org = resource?.kind === "organization" ? resource.id : request.projectOrg;
  if (principal.kind === "service") return allowed(org, resource);
  if (resource === undefined) {
    return { kind: "allowed", scope: scopeOf(principal.org, principal.project) };
  }
  if (org === undefined) return { kind: "denied", because: "tenant" };
  if (principal.role === "platform_operator") return allowed(org, resource);
  if (principal.org !== org) return { kind: "denied", because: "tenant" };
  if (principal.project !== undefined && resource.id !== principal.project) {
    return { kind: "denied", because: "project" };
  }
  return allowed(org, resource);
}

function allowed(org: string | undefined, resource: ResourceRef | undefined): AccessDecision {
  return {
    kind: "allowed",
    scope: scopeOf(org, resource?.kind === "project" ? resource.id : undefined),
  };
}

function scopeOf(org: string | undefined, project: string | undefined): Scope {
  return {
    ...(org === undefined ? {} : { org }),
    ...(project === undefined ? {} : { project }),
  };
}

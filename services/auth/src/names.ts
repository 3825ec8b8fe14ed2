import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { ApiKeyId, OrgId, ProjectId } from "@fastgpu/domain/ids";

/** `organizations/{organization}`. */
export function organizationName(org: OrgId): string {
  return `organizations/${org}`;
}

/** `projects/{project}`. */
export function projectName(project: ProjectId): string {
  return `projects/${project}`;
}

/** `organizations/{organization}/apiKeys/{key}`. */
export function apiKeyName(org: OrgId, key: ApiKeyId): string {
  return `organizations/${org}/apiKeys/${key}`;
}

/** The organisation that a resource name begins with; NOT_FOUND where the id is none. */
export function orgOfName(name: string): OrgId {
  const [collection, id = ""] = name.split("/");
  const org = collection === "organizations" ? parseId("org", id) : undefined;
  if (org === undefined) throw Fault.notFound(name);
  return org;
}

/** The project that a name spells; NOT_FOUND where the id is none. */
export function projectOfName(name: string): ProjectId {
  const [collection, id = "", rest] = name.split("/");
  const project = collection === "projects" && rest === undefined ? parseId("proj", id) : undefined;
  if (project === undefined) throw Fault.notFound(name);
  return project;
}

/** The key that `organizations/{organization}/apiKeys/{key}` spells; NOT_FOUND where an id is none. */
export function keyOfName(name: string): { readonly org: OrgId; readonly key: ApiKeyId } {
  const key = parseId("key", name.split("/")[3] ?? "");
  if (key === undefined) throw Fault.notFound(name);
  return { org: orgOfName(name), key };
}

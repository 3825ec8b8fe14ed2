import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { Id, IdPrefix, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { Tenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";

/** The organisation of `organizations/{organization}/balance`; NOT_FOUND where the id is none. */
export function orgOfBalance(name: string): OrgId {
  const org = parseId("org", name.split("/")[1] ?? "");
  if (org === undefined) throw Fault.notFound(name);
  return org;
}

/** `organizations/{organization}/balance`. */
export function balanceName(org: OrgId): string {
  return `organizations/${org}/balance`;
}

/** The project of `projects/{project}`; NOT_FOUND where the id is none. */
export function projectOfName(name: string): ProjectId {
  const project = parseId("proj", name.slice("projects/".length));
  if (project === undefined) throw Fault.notFound(name);
  return project;
}

/** The task of `projects/{project}/tasks/{task}`, which must be in this project. */
export function taskOfName(name: string, project: ProjectId, field: string): TaskId {
  const [collection, owner, kind, id = "", rest] = name.split("/");
  const task = parseId("task", id);
  if (collection !== "projects" || kind !== "tasks" || rest !== undefined || task === undefined) {
    throw Fault.invalid(field, "must be projects/{project}/tasks/{task}");
  }
  if (owner !== project) throw Fault.invalid(field, "must be a task of the project in `parent`");
  return task;
}

/** `projects/{project}/tasks/{task}`. */
export function taskName(project: ProjectId, task: TaskId): string {
  return `projects/${project}/tasks/${task}`;
}

/** An id in a field of a request, or INVALID_FIELD naming it. */
export function idField<P extends IdPrefix>(prefix: P, text: string, field: string): Id<P> {
  const id = parseId(prefix, text);
  if (id === undefined) throw Fault.invalid(field, `must be an id ${prefix}-…`);
  return id;
}

/** The tenant whose rows a call about a project may read. */
export function tenantOf(context: CallContext, project: ProjectId): Tenant {
  const org = parseId("org", context.scope.org ?? "");
  if (org === undefined) throw Fault.notFound(`projects/${project}`);
  return { org, project };
}

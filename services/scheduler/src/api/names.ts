import { Fault } from "@fastgpu/domain/fault";
import { parseId, type NodeId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import type { Tenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";

/** The project and organisation that a call acts on; the interceptor has checked both. */
export function tenantOf(context: CallContext): { org: OrgId; project: ProjectId } & Tenant {
  const org = parseId("org", context.scope.org ?? "");
  const project = parseId("proj", context.scope.project ?? "");
  if (org === undefined || project === undefined) {
    throw Fault.invalid("parent", "must begin with projects/{project}");
  }
  return { org, project };
}

/** The task of `projects/{project}/tasks/{task}`. A malformed id is a task that does not exist. */
export function taskOf(name: string): TaskId {
  const id = parseId("task", name.split("/")[3] ?? "");
  if (id === undefined)
    throw Fault.notFound(name, "task ids look like task-01j…; `fastgpu task list` shows them");
  return id;
}

/** The node of `nodes/{node}`. */
export function nodeOf(name: string): NodeId {
  const id = parseId("node", name.split("/")[1] ?? "");
  if (id === undefined) throw Fault.notFound(name, "`fastgpu node list` shows the nodes");
  return id;
}

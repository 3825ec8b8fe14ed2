import { fromBinary } from "@bufbuild/protobuf";
import { TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { parseId, type OrgId, type ProjectId } from "@fastgpu/domain/ids";
import { holdsPermission } from "@fastgpu/rpc/authorization";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";

/** Projects that are looked at: one page of auth's list. */
const pageSize = 1_000;

/**
 * The other projects of a task's organisation in which the caller could submit it. A key that is bound to one project
 * hears of no other; nor does who may not submit. Dependencies and inputs are of the task's own project: with any, it
 * can go nowhere else. None where auth cannot be asked: all else of the answer is known without.
 */
export async function otherProjects(
  s: Scheduler,
  of: { context: CallContext; org: OrgId; project: ProjectId; spec: Uint8Array },
): Promise<ProjectId[]> {
  const { context, org, project } = of;
  const { principal } = context;
  if (principal.project !== undefined || !holdsPermission(principal, "tasks.create")) return [];
  const { dependsOn, inputs } = fromBinary(TaskSpecSchema, of.spec);
  if (dependsOn.length > 0 || inputs.length > 0) return [];
  try {
    const parent = `organizations/${org}`;
    const { projects } = await s.projects.listProjects({ parent, pageSize }, { timeoutMs: 2_000 });
    const ids = projects.flatMap(({ name }) => parseId("proj", name.split("/")[1] ?? "") ?? []);
    return ids.filter((id) => id !== project);
  } catch (error) {
    context.log.warn({ err: error }, "no list of projects from auth");
    return [];
  }
}

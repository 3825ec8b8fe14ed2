import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { ArtifactId, ProjectId } from "@fastgpu/domain/ids";
import type { Tenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";

/** An organisation and one of its projects. */
export interface ProjectTenant extends Tenant {
  readonly project: ProjectId;
}

/** `projects/{project}/artifacts/{artifact}`. */
export function artifactName(project: ProjectId, artifact: ArtifactId): string {
  return `projects/${project}/artifacts/${artifact}`;
}

/** The project that a name begins with, and the artifact that it spells; NOT_FOUND where an id is none. */
export function parseArtifactName(name: string): { project: ProjectId; artifact: ArtifactId } {
  const [projects, projectText = "", artifacts, artifactText = "", rest] = name.split("/");
  const project = projects === "projects" ? parseId("proj", projectText) : undefined;
  const artifact = artifacts === "artifacts" ? parseId("art", artifactText) : undefined;
  if (project === undefined || artifact === undefined || rest !== undefined) {
    throw Fault.notFound(name);
  }
  return { project, artifact };
}

/** The tenant that authorisation found for the call's project. */
export function tenantOf(context: CallContext): ProjectTenant {
  const org = parseId("org", context.scope.org ?? "");
  const project = parseId("proj", context.scope.project ?? "");
  if (org === undefined || project === undefined) throw Fault.notFound("the project");
  return { org, project };
}

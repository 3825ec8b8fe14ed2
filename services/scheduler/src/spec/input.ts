import type { Input } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { parseId, type ArtifactId, type ProjectId } from "@fastgpu/domain/ids";

/** The artifact that an input names in this project; undefined where it names none. */
export function artifactOf(
  { artifact }: Pick<Input, "artifact">,
  project: ProjectId,
): ArtifactId | undefined {
  const [projects, owner, artifacts, id = "", ...rest] = artifact.split("/");
  const whole = projects === "projects" && artifacts === "artifacts" && rest.length === 0;
  return whole && owner === project ? parseId("art", id) : undefined;
}

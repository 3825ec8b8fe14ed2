import { createHash } from "node:crypto";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ContainerSpecSchema,
  ProcessSpecSchema,
  TaskSpecSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { ProjectId } from "@fastgpu/domain/ids";

/**
 * What makes a task the resubmission of an earlier one: the same user of the same project runs the same thing. Neither
 * environment nor resources, limits, names or labels count: they are what changes between tries. A uuid; null for a
 * task without GPUs, which has no service to carry over. Why this is no way to gain anything: docs/decisions/lineage.md.
 */
export function lineageOf(of: {
  readonly project: ProjectId;
  readonly user: string;
  readonly task: { readonly spec: Uint8Array; readonly demand: { readonly gpuCount: number } };
}): string | null {
  if (of.task.demand.gpuCount === 0) return null;
  const { runtime } = fromBinary(TaskSpecSchema, of.task.spec);
  const hash = createHash("sha256").update(JSON.stringify([of.project, of.user, runtime.case]));
  if (runtime.case === "container") hash.update(toBinary(ContainerSpecSchema, runtime.value));
  if (runtime.case === "process") hash.update(toBinary(ProcessSpecSchema, runtime.value));
  const hex = hash.digest("hex");
  return [8, 12, 16, 20, 32].map((end, at, ends) => hex.slice(ends[at - 1] ?? 0, end)).join("-");
}

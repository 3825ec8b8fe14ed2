import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import {
  ProgressSchema,
  TaskSchema,
  TaskSpecSchema,
  type LeasedGpu,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Money } from "@fastgpu/contracts/fastgpu/type/v1/money_pb";
import { countIndices } from "@fastgpu/domain/index-set";
import { idToUuid, uuidToId, type AttemptId } from "@fastgpu/domain/ids";
import { memberName, parseMemberName } from "@fastgpu/domain/member-name";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { StoredTask } from "../store/tasks.ts";
import { exitClassToWire, queueReasonToWire, taskStateToWire } from "./wire-states.ts";

/** What of a task stands in other rows or services. */
export interface TaskExtras {
  /** `nodes/{node}` of the present or last attempt, of a gang its member 0's. */
  readonly node: string;
  /** Of a gang by rank. */
  readonly gpus: readonly LeasedGpuInit[];
  readonly files?: readonly {
    path: string;
    sizeBytes: bigint;
    sha256: string;
    artifact: string;
  }[];
  readonly cost?: Money | undefined;
  /** GPU-milliseconds of its attempts. */
  readonly gpuMs?: number | undefined;
}

export type LeasedGpuInit = Pick<LeasedGpu, "gpu" | "model" | "simulated">;

/** A time on the wire. */
export const at = (ms: number | undefined): Timestamp | undefined =>
  ms === undefined ? undefined : timestampFromMs(ms);

/** Leaves out what is undefined: protobuf-es wants absent fields absent. */
export function defined<T extends object>(fields: {
  [K in keyof T]: T[K] | undefined;
}): Partial<T> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}

/** The task as clients see it. */
export function taskToWire(task: StoredTask, extras: TaskExtras): Task {
  const init: MessageInitShape<typeof TaskSchema> = {
    name: `projects/${task.project}/tasks/${task.id}`,
    displayName: task.displayName,
    labels: { ...task.labels },
    spec: fromBinary(TaskSpecSchema, task.spec),
    state: taskStateToWire(task.state),
    statusMessage: task.statusMessage,
    attemptCount: task.attemptCount,
    preemptions: task.preemptions,
    revision: BigInt(task.revision),
    traceId: task.traceparent.split("-")[1] ?? "",
    node: extras.node,
    gpus: [...extras.gpus],
    ...(task.state === "QUEUED" && task.queueReason !== undefined
      ? { queueReason: queueReasonToWire(task.queueReason) }
      : {}),
    ...defined({
      exitClass: task.exitClass === undefined ? undefined : exitClassToWire(task.exitClass),
      exitCode: task.exitCode,
      progress: task.progress === undefined ? undefined : fromBinary(ProgressSchema, task.progress),
      createTime: at(task.createdMs),
      submitTime: at(task.submittedMs),
      startTime: at(task.startedMs),
      endTime: at(task.endedMs),
      cost: extras.cost,
      gpuTime: extras.gpuMs === undefined ? undefined : durationFromMs(extras.gpuMs),
    }),
    ...(task.array === undefined ? {} : { arrayStatus: arrayStatus(task.array) }),
    ...(task.state === "SUCCEEDED"
      ? { result: { manifestDigest: task.manifestDigest ?? "", files: [...(extras.files ?? [])] } }
      : {}),
  };
  return create(TaskSchema, init);
}

function arrayStatus(array: NonNullable<StoredTask["array"]>) {
  return {
    pending: countIndices(array.pending),
    leased: countIndices(array.leased),
    succeeded: countIndices(array.succeeded),
    failed: countIndices(array.failed),
    cancelled: countIndices(array.cancelled),
  };
}

const selectPlaces = statement<{
  attempt_id: string;
  member: number;
  node_id: string;
  gpu_id: string | null;
  model: string | null;
  simulated: boolean | null;
}>(
  "task_places",
  `select a.id as attempt_id, a.member, a.node_id, g.id as gpu_id, g.model, g.simulated
   from attempts a left join allocations l on l.attempt_id = a.id and l.member = a.member left join gpus g on g.id = l.gpu_id
   where a.id = any($1::uuid[]) order by a.id, a.member, g.index`,
);

/** Where attempts are: their node and GPUs. */
export async function readPlaces(
  db: Querier,
  attempts: readonly AttemptId[],
): Promise<ReadonlyMap<AttemptId, Place>> {
  const places = new Map<AttemptId, Place>();
  for (const [name, place] of await readMemberPlaces(db, attempts)) {
    const attempt = parseMemberName(name)?.attempt;
    if (attempt === undefined) continue;
    const before = places.get(attempt);
    const gpus = [...(before?.gpus ?? []), ...place.gpus];
    places.set(attempt, { node: before?.node ?? place.node, gpus });
  }
  return places;
}

/** A node and GPUs of it, by their resource names. */
export type Place = Pick<TaskExtras, "node" | "gpus">;

/** Where each member of attempts is, by its name and in the order of ranks. */
export async function readMemberPlaces(
  db: Querier,
  attempts: readonly AttemptId[],
): Promise<ReadonlyMap<string, Place>> {
  if (attempts.length === 0) return new Map();
  const rows = await db.query(selectPlaces, [attempts.map(idToUuid)]);
  const places = new Map<string, { node: string; gpus: LeasedGpuInit[] }>();
  for (const row of rows) {
    const name = memberName({ attempt: uuidToId("att", row.attempt_id), member: row.member });
    const node = `nodes/${uuidToId("node", row.node_id)}`;
    const place = places.get(name) ?? { node, gpus: [] };
    places.set(name, place);
    if (row.gpu_id === null) continue;
    const gpu = `${node}/gpus/${uuidToId("gpu", row.gpu_id)}`;
    place.gpus.push({ gpu, model: row.model ?? "", simulated: row.simulated ?? false });
  }
  return places;
}

/** A task that was never leased. */
export const noPlace: TaskExtras = { node: "", gpus: [] };

import type { Money } from "@fastgpu/contracts/fastgpu/type/v1/money_pb";
import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { TaskId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { readAttained } from "../store/lineages.ts";
import { readTask, readTasks, type StoredTask } from "../store/tasks.ts";
import { tenantOf } from "./names.ts";
import { readAttempts } from "../store/attempts.ts";
import { noPlace, readPlaces, taskToWire } from "./task-wire.ts";
import { inTenant } from "./in-tenant.ts";

/** How long the answer waits for what other services know of a task. */
const extrasTimeoutMs = 1_000;

/** A task of the caller's project, read under row-level security; NOT_FOUND where there is none. */
export async function readTaskOf(
  s: Scheduler,
  tenant: ReturnType<typeof tenantOf>,
  of: { id: TaskId; name: string },
): Promise<StoredTask> {
  const task = await inTenant(s, tenant, (tx) => readTask(tx, tenant.project, of.id));
  if (task === undefined) throw Fault.notFound(of.name, "`fastgpu task list` shows the tasks");
  return task;
}

/** As {@link describeTask}, for a task that a call has just written. */
export async function describeWritten(
  s: Scheduler,
  { id, name }: { readonly id: TaskId; readonly name: string },
  context: CallContext,
): Promise<Task> {
  const [task] = await readTasks(s.core, [id]);
  if (task === undefined) throw Fault.notFound(name);
  return describeTask(s, task, context);
}

/** The task with where it runs, what it cost and what it left. */
export async function describeTask(
  s: Scheduler,
  task: StoredTask,
  context: CallContext,
): Promise<Task> {
  const places = await readPlaces(s.core, task.attempt === undefined ? [] : [task.attempt]);
  const place = (task.attempt === undefined ? undefined : places.get(task.attempt)) ?? noPlace;
  const [cost, files, attained] = await Promise.all([
    readCost(s, task, context),
    readFiles(s, task, context),
    readGpuTimes(s, [task]),
  ]);
  return taskToWire(task, { ...place, cost, files, gpuMs: attained.get(task.id) });
}

/** GPU-milliseconds of tasks that ask for GPUs and had an attempt. */
export async function readGpuTimes(
  s: Scheduler,
  tasks: readonly StoredTask[],
): Promise<ReadonlyMap<TaskId, number>> {
  const had = tasks.filter((task) => task.demand.gpuCount > 0 && task.attempt !== undefined);
  const attained = await readAttained(
    s.core,
    had.map((task) => task.id),
  );
  return new Map(Array.from(attained, ([id, { gpuMs }]) => [id, gpuMs]));
}

/** What billing knows. A bill that cannot be had leaves the field out: the task's state does not depend on it. */
async function readCost(s: Scheduler, task: StoredTask, context: CallContext) {
  return (await readCosts(s, [task], context)).get(task.id);
}

/** Costs of tasks of one project, for those that can have one. */
export async function readCosts(
  s: Scheduler,
  all: readonly StoredTask[],
  context: CallContext,
): Promise<ReadonlyMap<TaskId, Money>> {
  const billed = all.filter((task) => task.demand.gpuCount > 0 && task.attempt !== undefined);
  const [task] = billed;
  if (task === undefined) return new Map();
  const parent = `projects/${task.project}`;
  const tasks = billed.map((each) => `${parent}/tasks/${each.id}`);
  const options = { parent: context, timeoutMs: extrasTimeoutMs, waitForReady: false };
  return s.billing.batchGetTaskCosts({ parent, tasks }, options).then(
    (answer) =>
      new Map(
        answer.costs.flatMap(({ cost }, i) => {
          const id = billed[i]?.id;
          return id === undefined || cost === undefined ? [] : [[id, cost] as const];
        }),
      ),
    (error: unknown) => {
      context.log.warn({ err: error }, "no costs from billing");
      return new Map();
    },
  );
}

/** Members whose manifests are asked for at once. */
const manifestsAtOnce = 16;

async function readFiles(s: Scheduler, task: StoredTask, context: CallContext) {
  if (task.state !== "SUCCEEDED") return [];
  const manifests = await manifestsOf(s, task);
  const options = { parent: context, timeoutMs: extrasTimeoutMs, waitForReady: false };
  const read = async ({ member, digest }: (typeof manifests)[number]) => {
    const request = { parent: `projects/${task.project}`, digest };
    const { files } = await s.storage.getManifest(request, options);
    return files.map(({ path, sizeBytes, sha256, artifact }) => ({
      path: task.replicas === 1 ? path : gangPath(member, path),
      sizeBytes,
      sha256,
      artifact,
    }));
  };
  try {
    const files: Awaited<ReturnType<typeof read>> = [];
    for (let from = 0; from < manifests.length; from += manifestsAtOnce) {
      const some = manifests.slice(from, from + manifestsAtOnce);
      files.push(...(await Promise.all(some.map(read))).flat());
    }
    return files;
  } catch (error) {
    context.log.warn({ err: error, task: task.id }, "no manifest from storage");
    return [];
  }
}

/** The manifests that together are the task's result. */
async function manifestsOf(s: Scheduler, task: StoredTask) {
  if (task.replicas === 1 || task.attempt === undefined) {
    return task.manifestDigest === undefined ? [] : [{ member: 0, digest: task.manifestDigest }];
  }
  return (await readAttempts(s.core, [task.attempt])).flatMap(({ member, manifestDigest }) =>
    manifestDigest === undefined ? [] : [{ member, digest: manifestDigest }],
  );
}

/**
 * Where a file of a gang's member is in the result: rank 0's at the top, the others' below their rank. What rank 0
 * keeps below a folder of such a name would be in their way: it goes below `rank-0/`.
 */
function gangPath(member: number, path: string): string {
  return member === 0 && !/^rank-\d+\//.test(path) ? path : `rank-${member}/${path}`;
}

import { Fault } from "@fastgpu/domain/fault";
import type { TaskId } from "@fastgpu/domain/ids";
import { createBatchWriter, type BatchWriter } from "@fastgpu/postgres/batch-writer";
import type { Pool } from "@fastgpu/postgres/pool";
import { compareRequest, requestReused } from "@fastgpu/postgres/requests";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import { insertDependencies, lockParentStates } from "../store/dependencies.ts";
import {
  insertTasks,
  readRequests,
  requestKeyText,
  taskOfResponse,
  type NewTask,
  type UsedRequest,
} from "../store/submits.ts";
import { meets } from "../cycle/dependents.ts";

/** What became of a task that was to be stored. */
export type SubmitOutcome =
  | { readonly kind: "stored" }
  /** The request was answered before: with this task. */
  | { readonly kind: "replay"; readonly task: TaskId }
  /** The request id was used for another body; `field` is the first that differs. */
  | { readonly kind: "conflict"; readonly field: string };

/** Makes tasks durable. */
export interface SubmitWriter extends AsyncDisposable {
  /** Resolves after the commit. Refused where a dependency does not exist: NOT_FOUND. */
  submit(task: NewTask): Promise<SubmitOutcome>;
}

/** Tasks that depend on nothing go many in one statement; the others lock their parents and go alone. */
export function createSubmitWriter(options: {
  core: Pool;
  onStored: (tasks: readonly TaskId[]) => void;
}): SubmitWriter {
  const { core, onStored } = options;
  const writer: BatchWriter<NewTask, SubmitOutcome> = createBatchWriter({
    write: async (tasks: readonly NewTask[]) => {
      const stored = await insertTasks(core, tasks);
      if (stored.size > 0) onStored([...stored]);
      return stored.size === tasks.length
        ? tasks.map(() => storedOutcome)
        : resolve(core, tasks, stored);
    },
  });
  return {
    async submit(task) {
      if (task.task.dependencies.length === 0) return writer.submit(task);
      const outcome = await transaction(core, (tx) => storeAlone(tx, task));
      // Parents are marked too: one that has ended already unlocks or fails the task in the next cycle.
      if (outcome.kind === "stored") {
        onStored([task.id, ...task.task.dependencies.map((dependency) => dependency.parent)]);
      }
      return outcome;
    },
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  };
}

const storedOutcome: SubmitOutcome = { kind: "stored" };

async function resolve(
  core: Pool,
  tasks: readonly NewTask[],
  stored: ReadonlySet<TaskId>,
): Promise<SubmitOutcome[]> {
  const keys = tasks.flatMap((task) =>
    stored.has(task.id) || task.request === undefined ? [] : [task.request.key],
  );
  const used = await readRequests(core, keys);
  return tasks.map((task) => (stored.has(task.id) ? storedOutcome : replayOf(task, used)));
}

function replayOf(task: NewTask, used: ReadonlyMap<string, UsedRequest>): SubmitOutcome {
  const { request } = task;
  const row = request === undefined ? undefined : used.get(requestKeyText(request.key));
  if (request === undefined || row === undefined) {
    throw new Fault("UNAVAILABLE", "the request id is being removed", { retryAfterMs: 100 });
  }
  const outcome = compareRequest(row, request.body);
  if (outcome.kind === "conflict") return outcome;
  return { kind: "replay", task: taskOfResponse(row.response) };
}

/** Stores one task in a transaction of the caller's, with its parents locked. */
export async function storeAlone(tx: Tx, task: NewTask): Promise<SubmitOutcome> {
  const { dependencies } = task.task;
  const parents = [...new Set(dependencies.map((dependency) => dependency.parent))].toSorted();
  const states = await lockParentStates(tx, task.project, parents);
  const missing = dependencies.findIndex(({ parent }) => !states.has(parent));
  if (missing >= 0) {
    throw Fault.notFound(
      `projects/${task.project}/tasks/${dependencies[missing]?.parent ?? ""}`,
      `task.spec.depends_on[${missing}].task must name a task of this project`,
    );
  }
  const items = dependencies.map(({ parent, condition }) => {
    const state = states.get(parent);
    return { parent, condition, resolved: state !== undefined && meets(condition, state) };
  });
  const waitingFor = items.filter((item) => !item.resolved).length;
  const stored = await insertTasks(tx, [{ ...task, waitingFor }]);
  if (!stored.has(task.id)) {
    return replayOf(
      task,
      await readRequests(tx, task.request === undefined ? [] : [task.request.key]),
    );
  }
  await insertDependencies(tx, { task: task.id, org: task.org, project: task.project }, items);
  return { kind: "stored" };
}

/** The answer to a request id that was used for something else. */
export function conflictFault(task: NewTask, field: string): Fault {
  const { request } = task;
  if (request === undefined) return new Fault("INTERNAL", "a conflict without a request id");
  return requestReused(request.key, field);
}

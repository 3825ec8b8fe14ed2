import { Fault } from "@fastgpu/domain/fault";
import { parseId, type TaskId } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { cancelIn } from "../api/cancel-task.ts";
import type { Scheduler } from "../scheduler.ts";
import { lockLiveAttemptsOfTask } from "../store/attempts.ts";
import type { NewTask } from "../store/submits.ts";
import { lockTask, type StoredTask } from "../store/tasks.ts";
import { keepsPlace } from "./place-in-line.ts";
import { storeAlone, type SubmitOutcome } from "./writer.ts";

/**
 * Stores a task and cancels the waiting one that it takes the place of, both or neither. It keeps the other's place in
 * line where {@link keepsPlace} says so. Throws ILLEGAL_STATE where the other does not wait any more, NOT_FOUND where
 * the project has none of this name. A repeated request changes nothing: the answer is the first one's.
 */
export async function replaceTask(
  s: Scheduler,
  task: NewTask,
  of: { readonly replaces: string; readonly context: CallContext },
): Promise<SubmitOutcome> {
  const { replaces, context } = of;
  const id = idIn(task, replaces);
  const outcome = await transaction(s.core, async (tx) => {
    const old = await lockTask(tx, task.project, id);
    if (old === undefined) throw Fault.notFound(replaces, "`fastgpu task list` shows the tasks");
    const { submittedMs } = old;
    const kept = keepsPlace(old, task) && submittedMs !== undefined ? { submittedMs } : {};
    const stored = await storeAlone(tx, { ...task, ...kept });
    if (stored.kind !== "stored") return stored;
    const live = (await lockLiveAttemptsOfTask(tx, id)).length > 0;
    checkWaits(old, { live, name: replaces });
    await cancelIn(s, tx, {
      ...{ task: old, context },
      request: { name: replaces, reason: `${task.id} takes its place` },
    });
    return stored;
  });
  if (outcome.kind === "stored") {
    const parents = task.task.dependencies.map(({ parent }) => parent);
    s.changed({ tasks: [task.id, id, ...parents], nodes: [] });
  }
  return outcome;
}

/** The task that is named, of the project in which the new one is submitted. */
function idIn({ project }: NewTask, name: string): TaskId {
  const prefix = `projects/${project}/tasks/`;
  const id = name.startsWith(prefix) ? parseId("task", name.slice(prefix.length)) : undefined;
  if (id === undefined) throw Fault.invalid("replaces", "must name a task of the same project");
  return id;
}

function checkWaits(old: StoredTask, { live, name }: { live: boolean; name: string }): void {
  const waits = old.state === "QUEUED" || old.state === "DRAFT";
  const leased = (old.array?.leased.length ?? 0) > 0;
  if (waits && !live && !leased && !old.cancelRequested) return;
  throw new Fault("ILLEGAL_STATE", `${name} does not wait any more`, {
    metadata: { state: old.state },
    hint: "submit the new one without `replaces`, and cancel the other if it is not wanted",
  });
}

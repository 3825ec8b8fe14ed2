import { randomUUID } from "node:crypto";
import { fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import {
  type Task,
  TaskSchema,
  TaskSpecSchema,
  TaskState,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { lastPart } from "../output/values.ts";
import { toJsonForm } from "../spec/json-form.ts";
import { printTask, taskName } from "./task-read.ts";

/** Options of `task rerun`. */
export interface RerunOptions extends CommonOptions {
  set?: string[];
  keep?: boolean;
  toProject?: string;
}

/** `task rerun TASK`: submits it again, with changes; one that still waits is cancelled for it. */
export async function rerunTask(
  context: CliContext,
  options: RerunOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    const before = await api.tasks.getTask({ name });
    const task = changedTask(before, options.set ?? []);
    const parent = projectOf(name, options.toProject);
    const waits = before.state === TaskState.DRAFT || before.state === TaskState.QUEUED;
    const replaced = waits && options.keep !== true;
    // At once where both are in one project: it keeps its place in line where it asks for no more.
    const replaces = replaced && name.startsWith(`${parent}/`) ? name : "";
    const after = await api.tasks.runTask({ parent, task, replaces, requestId: randomUUID() });
    await printTask(context, options, after);
    if (!replaced) return;
    // Only once the new one is accepted: a refused change leaves the old one in its place.
    const reason = `${lastPart(after.name)} takes its place`;
    if (replaces === "") await api.tasks.cancelTask({ name, reason });
    context.terminal.err(`${lastPart(name)} is cancelled: ${reason}\n`);
  });
}

/** The project to submit it in: its own, or the one that was named. */
function projectOf(name: string, typed: string | undefined): string {
  if (typed === undefined) return name.slice(0, name.indexOf("/tasks/"));
  return typed.includes("/") ? typed : `projects/${typed}`;
}

/** The task with fields set by `path=value`, for example `spec.resources.gpu.count=2`; the value in JSON or as text. */
export function changedTask(before: Task, sets: readonly string[]): Task {
  const form: JsonObject = {
    displayName: before.displayName,
    labels: { ...before.labels },
    spec: before.spec === undefined ? {} : toJson(TaskSpecSchema, before.spec),
  };
  for (const set of sets) {
    const at = set.indexOf("=");
    if (at <= 0) {
      throw new CliError(`"${set}" sets nothing`, {
        why: "a path and a value are wanted",
        hint: "--set spec.resources.gpu.count=2",
      });
    }
    assign(form, set.slice(0, at), valueOf(set.slice(at + 1)));
  }
  try {
    return fromJson(TaskSchema, toJsonForm(TaskSchema, form));
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError("it is not a task", { why: (error as Error).message, cause: error });
  }
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Sets a field of the JSON form; null takes it away. */
function assign(form: JsonObject, path: string, value: unknown): void {
  const words = path.split(".").map(camel);
  const last = words.pop() ?? "";
  let at = form;
  for (const word of words) {
    const inner = at[word];
    const next: JsonObject =
      typeof inner === "object" && inner !== null && !Array.isArray(inner) ? inner : {};
    at[word] = next;
    at = next;
  }
  if (value === null) delete at[last];
  else at[last] = value as JsonObject[string];
}

/** `min_memory_mib` as it stands in JSON. */
const camel = (word: string): string =>
  word.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

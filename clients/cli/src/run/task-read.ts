import { randomUUID } from "node:crypto";
import {
  type Attempt,
  type Task,
  TaskStateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { type Api, withApi } from "../api/connect.ts";
import { resolveName } from "../api/names.ts";
import { allPages, collectPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { isForPeople, printList, printOne } from "../output/print.ts";
import { renderTable } from "../output/table.ts";
import { watchToEnd } from "./follow.ts";
import { attemptView, memberView, taskView } from "./views.ts";

/** The resource name of a task as typed. */
export async function taskName(api: Api, typed: string): Promise<string> {
  return await resolveName("tasks", typed, api.project);
}

/** Prints one task. */
export async function printTask(
  context: CliContext,
  options: CommonOptions,
  task: Task,
): Promise<void> {
  await printOne(
    printOptions(context, options),
    taskView(context.terminal.paint, context.nowMs()),
    task,
  );
}

/** `task submit TASK` */
export async function submitTask(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    await printTask(
      context,
      options,
      await api.tasks.submitTask({ name, requestId: randomUUID() }),
    );
  });
}

/** `task get TASK` */
export async function getTask(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    const task = await api.tasks.getTask({ name });
    await printTask(context, options, task);
    const print = printOptions(context, options);
    const wide = print.format === "wide";
    if (!isForPeople(print) || (!wide && (task.spec?.replicas ?? 0) < 2)) return;
    const attempts = await attemptsOf(api, name);
    if (wide && attempts.length > 0)
      context.terminal.out(`\n${renderTable(attemptView.columns, attempts)}`);
    const members = attempts.at(-1)?.members ?? [];
    if (members.length > 0) context.terminal.out(`\n${renderTable(memberView.columns, members)}`);
  });
}

async function attemptsOf(api: Api, parent: string): Promise<Attempt[]> {
  return allPages(
    (page) => api.tasks.listAttempts({ parent, ...page }),
    ({ attempts }) => attempts,
  );
}

/** `task attempts TASK` */
export async function listAttempts(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const attempts = await attemptsOf(api, await taskName(api, typed));
    await printList(printOptions(context, options), attemptView, attempts, "it was never leased");
  });
}

/** Options of `task list`. */
export interface ListOptions extends CommonOptions {
  state?: string;
  label?: Record<string, string>;
  name?: string;
  filter?: string;
  limit: number;
}

/** `task list` */
export async function listTasks(context: CliContext, options: ListOptions): Promise<void> {
  const filter = listFilter(options);
  await withApi(context, options, async (api) => {
    const parent = await api.project();
    const tasks = await collectPages(
      options.limit,
      (page) => api.tasks.listTasks({ parent, filter, ...page }),
      ({ tasks }) => tasks,
    );
    const view = taskView(context.terminal.paint, context.nowMs());
    const none = filter === "" ? "no tasks yet; fastgpu task run starts one" : "no tasks match";
    await printList(printOptions(context, options), view, tasks.items, none);
    if (tasks.more && context.terminal.errIsTty) {
      context.terminal.err(`only the newest ${options.limit} are shown; --limit 0 shows all\n`);
    }
  });
}

/** The API's filter for the options; values that are not plain words are quoted. */
export function listFilter(
  options: Pick<ListOptions, "state" | "label" | "name" | "filter">,
): string {
  const terms = options.filter === undefined ? [] : [options.filter];
  if (options.state !== undefined) terms.push(`state = ${knownState(options.state)}`);
  if (options.name !== undefined) terms.push(`display_name = ${filterValue(options.name)}`);
  for (const [key, value] of Object.entries(options.label ?? {})) {
    terms.push(`labels.${key} = ${filterValue(value)}`);
  }
  return terms.join(" AND ");
}

function knownState(typed: string): string {
  const known = TaskStateSchema.values
    .filter(({ number }) => number !== 0)
    .map(({ localName }) => localName);
  const wanted = typed.toUpperCase();
  if (known.includes(wanted)) return wanted;
  const close = nearest(wanted, known);
  throw new CliError(`"${typed}" is not a state of tasks`, {
    why: `they are ${known.join(", ").toLowerCase()}`,
    ...(close === undefined ? {} : { hint: `--state ${close.toLowerCase()}` }),
  });
}

function filterValue(text: string): string {
  return /^[A-Za-z0-9_.-]+$/.test(text) ? text : `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
}

/** `task cancel TASK…` */
export async function cancelTasks(
  context: CliContext,
  options: CommonOptions & { reason?: string; wait?: boolean },
  typed: string[],
): Promise<void> {
  await withApi(context, options, async (api) => {
    const cancelled: Task[] = [];
    for (const one of typed) {
      const name = await taskName(api, one);
      cancelled.push(await api.tasks.cancelTask({ name, reason: options.reason ?? "" }));
    }
    const print = printOptions(context, options);
    const view = taskView(context.terminal.paint, context.nowMs());
    const shown = options.wait === true ? await waitForAll(context, api, cancelled) : cancelled;
    const [only] = shown;
    if (shown.length === 1 && only !== undefined) await printOne(print, view, only);
    else await printList(print, view, shown, "");
  });
}

async function waitForAll(context: CliContext, api: Api, tasks: readonly Task[]): Promise<Task[]> {
  const signal = context.interruptible();
  const { terminal } = context;
  return await Promise.all(
    tasks.map(async (task) => {
      const last = await watchToEnd({ api, terminal, name: task.name, signal }, () => undefined);
      return last ?? task;
    }),
  );
}

import { randomUUID } from "node:crypto";
import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { type Api, withApi } from "../api/connect.ts";
import { resourceName } from "../api/names.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { lastPart, money } from "../output/values.ts";
import { taskFromFile } from "../spec/from-file.ts";
import { type SpecOptions, taskFromOptions } from "../spec/from-options.ts";
import { rawLogWriter, readLog, sayDetached, stateTeller, watchToEnd } from "./follow.ts";
import { exitCodeOfTask } from "./task-exit.ts";
import { printTask } from "./task-read.ts";
import { changedTask } from "./task-rerun.ts";
import { progressText, stateText } from "./views.ts";

/** Options of `task run`. */
export interface RunOptions extends SpecOptions, CommonOptions {
  detach?: boolean;
  dryRun?: boolean;
  set?: string[];
}

/** The task that options, a file and a command line describe, and the project it belongs to. */
export async function buildTask(
  api: Api,
  options: RunOptions,
  command: readonly string[],
): Promise<{ parent: string; task: Task }> {
  const base = options.file === undefined ? undefined : taskFromFile(options.file);
  const parent = await api.project();
  const nameOf = (collection: "tasks" | "artifacts", id: string): string =>
    resourceName(collection, id, parent);
  const task = taskFromOptions(options, command, { base, nameOf });
  return { parent, task: options.set === undefined ? task : changedTask(task, options.set) };
}

/** `task create` */
export async function createTask(
  context: CliContext,
  options: RunOptions,
  command: string[],
): Promise<void> {
  await withApi(context, options, async (api) => {
    const { parent, task } = await buildTask(api, options, command);
    const draft = await api.tasks.createTask({ parent, task, requestId: randomUUID() });
    await printTask(context, options, draft);
    if (context.terminal.errIsTty)
      context.terminal.err(`submit it: fastgpu task submit ${lastPart(draft.name)}\n`);
  });
}

/** `task run` */
export async function runTask(
  context: CliContext,
  options: RunOptions,
  command: string[],
): Promise<number> {
  return await withApi(context, options, async (api) => {
    const { parent, task } = await buildTask(api, options, command);
    const request = {
      parent,
      task,
      requestId: randomUUID(),
      validateOnly: options.dryRun === true,
    };
    const submitted = await api.tasks.runTask(request);
    if (options.dryRun === true || options.detach === true) {
      await printTask(context, options, submitted);
      return exitCodes.ok;
    }
    return await followToEnd({ api, context, options, submitted });
  });
}

interface FollowToEnd {
  api: Api;
  context: CliContext;
  options: CommonOptions;
  submitted: Task;
}

/** Shows a submitted task's log to its end and sums up; the exit code is the task's. */
async function followToEnd({ api, context, options, submitted }: FollowToEnd): Promise<number> {
  const { terminal } = context;
  const { name } = submitted;
  const quiet = options.quiet === true;
  const asked = options.format;
  if (quiet) terminal.out(`${lastPart(name)}\n`);
  else terminal.err(`${lastPart(name)} is submitted\n`);

  const signal = context.interruptible();
  const follow = { api, terminal, name, signal };
  const writer = rawLogWriter(terminal, { toErr: asked !== undefined });
  const [last] = await Promise.all([
    watchToEnd(follow, quiet ? () => undefined : stateTeller(terminal)),
    quiet ? undefined : readLog({ ...follow, follow: true }, writer),
  ]);
  if (signal.aborted || last === undefined) {
    sayDetached(terminal, name);
    return exitCodes.interrupted;
  }
  const finished = await api.tasks.getTask({ name });
  if (asked !== undefined && !quiet) {
    await printTask(context, options, finished);
  } else if (!quiet) {
    terminal.err(summary(finished));
  }
  return exitCodeOfTask(finished);
}

function summary(task: Task): string {
  const id = lastPart(task.name);
  const parts = [`${id} ${stateText(task)}`, progressText(task), money(task.cost)].filter(Boolean);
  const files = task.result?.files.length ?? 0;
  const where =
    files > 0 ? `${files} file${files === 1 ? "" : "s"}: fastgpu task result ${id}\n` : "";
  return `${parts.join(", ")}\n${where}`;
}

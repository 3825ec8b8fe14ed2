import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { effectiveFormat } from "../output/print.ts";
import { lastPart, money } from "../output/values.ts";
import { sayDetached, watchToEnd } from "./follow.ts";
import { exitCodeOfTask } from "./task-exit.ts";
import { taskName } from "./task-read.ts";
import { progressText, stateText, taskView } from "./views.ts";

/** `task watch TASK`: a line for each change; in JSON one document a line, since there is no end to wait for. */
export async function watchTask(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<number> {
  const { terminal } = context;
  return await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    const signal = context.interruptible();
    const last = await watchToEnd(
      { api, terminal, name, signal },
      await changeWriter(context, options),
    );
    if (signal.aborted || last === undefined) {
      sayDetached(terminal, name);
      return exitCodes.interrupted;
    }
    return exitCodeOfTask(last);
  });
}

async function changeWriter(
  context: CliContext,
  options: CommonOptions,
): Promise<(task: Task) => void> {
  const { terminal } = context;
  const print = printOptions(context, options);
  const view = taskView(terminal.paint, context.nowMs());
  const format = effectiveFormat(print);
  if (print.quiet) return () => undefined;
  if (format === "yaml") {
    const { toYaml } = await import("../output/yaml.ts");
    return (task) => terminal.out(`---\n${toYaml(view.json(task))}`);
  }
  if (format === "json" || format === "ndjson") {
    return (task) => terminal.out(`${JSON.stringify(view.json(task))}\n`);
  }
  return (task) => {
    const time = new Date(context.nowMs()).toISOString().slice(11, 19);
    const parts = [`${time}  ${lastPart(task.name)}  ${stateText(task)}`, progressText(task)];
    if (format === "wide") parts.push(lastPart(task.node), money(task.cost));
    if (task.statusMessage !== "") parts.push(task.statusMessage);
    terminal.out(`${parts.filter(Boolean).join("  ")}\n`);
  };
}

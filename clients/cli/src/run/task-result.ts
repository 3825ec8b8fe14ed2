import { toJson } from "@bufbuild/protobuf";
import {
  type OutputFile,
  OutputFileSchema,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { type Api, withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { type View, printList } from "../output/print.ts";
import { progressLine } from "../output/progress-line.ts";
import { binarySize, lastPart } from "../output/values.ts";
import { download, downloadToFile, placeBelow } from "./download.ts";
import { sayDetached, watchToEnd } from "./follow.ts";
import { exitCodeOfTask } from "./task-exit.ts";
import { taskName } from "./task-read.ts";
import { isTerminal, stateText } from "./views.ts";

const fileView: View<OutputFile> = {
  columns: [
    { header: "path", value: (file) => file.path },
    { header: "size", value: (file) => binarySize(file.sizeBytes), align: "right" },
    { header: "sha256", value: (file) => file.sha256, wide: true },
    { header: "artifact", value: (file) => lastPart(file.artifact) },
  ],
  id: (file) => lastPart(file.artifact),
  json: (file) => toJson(OutputFileSchema, file),
};

/** `task result TASK [PATH] [--dir DIR] [--wait]` */
export async function taskResult(
  context: CliContext,
  options: CommonOptions & { dir?: string; wait?: boolean },
  typed: string,
  path?: string,
): Promise<number> {
  return await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    const signal = context.interruptible();
    const task =
      options.wait === true
        ? await ended({ context, api, name, signal })
        : await api.tasks.getTask({ name });
    if (task === undefined) return exitCodes.interrupted;
    const files = filesOf(task);
    const fetch = { api, terminal: context.terminal, signal };
    if (path !== undefined) {
      const file = pickFile(files, path);
      await download({ ...fetch, ...sourceOf(file) }, (bytes) => context.terminal.out(bytes));
    } else if (options.dir !== undefined) {
      await fetchAll(fetch, files, options.dir);
    } else {
      await printList(printOptions(context, options), fileView, files, "the task left no files");
    }
    return options.wait === true ? exitCodeOfTask(task) : exitCodes.ok;
  });
}

interface Waiting {
  context: CliContext;
  api: Api;
  name: string;
  signal: AbortSignal;
}

async function ended({ context, api, name, signal }: Waiting): Promise<Task | undefined> {
  const { terminal } = context;
  using line = progressLine(terminal, "waiting for the task");
  const last = await watchToEnd({ api, terminal, name, signal }, (task) =>
    line.say(`${lastPart(name)} ${stateText(task)}`),
  );
  if (last === undefined || signal.aborted) {
    sayDetached(terminal, name);
    return undefined;
  }
  return await api.tasks.getTask({ name });
}

function filesOf(task: Task): OutputFile[] {
  if (task.result !== undefined) return task.result.files;
  const id = lastPart(task.name);
  throw new CliError(`${id} has no result`, {
    why: isTerminal(task.state) ? `it ended as ${stateText(task)}` : `it is ${stateText(task)}`,
    hint: isTerminal(task.state) ? `fastgpu task logs ${id}` : `fastgpu task result ${id} --wait`,
    exitCode: exitCodes.refused,
  });
}

function pickFile(files: readonly OutputFile[], path: string): OutputFile {
  const found = files.find((file) => file.path === path);
  if (found !== undefined) return found;
  const paths = files.map((file) => file.path);
  const close = nearest(path, paths);
  throw new CliError(`the task left no file ${JSON.stringify(path)}`, {
    why: paths.length === 0 ? "it left none" : `it left ${paths.join(", ")}`,
    ...(close === undefined ? {} : { hint: close }),
    exitCode: exitCodes.notFound,
  });
}

function sourceOf(file: OutputFile): { artifact: string; sizeBytes: bigint; sha256: string } {
  return { artifact: file.artifact, sizeBytes: file.sizeBytes, sha256: file.sha256 };
}

async function fetchAll(
  fetch: { api: Api; terminal: CliContext["terminal"]; signal: AbortSignal },
  files: readonly OutputFile[],
  directory: string,
): Promise<void> {
  using line = progressLine(fetch.terminal, "fetching");
  // Every name is looked at before the first byte is written.
  const places = files.map((file) => placeBelow(directory, file.path));
  for (const [at, file] of files.entries()) {
    line.say(`${file.path} (${at + 1} of ${files.length})`);
    const place = places[at] ?? "";
    await downloadToFile({ ...fetch, ...sourceOf(file) }, place);
    fetch.terminal.err(`${place}  ${binarySize(file.sizeBytes)}\n`);
  }
}

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { type Task, TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { parse } from "yaml";
import { CliError } from "../errors/cli-error.ts";
import { toJsonForm } from "./json-form.ts";

/**
 * Reads a task from a YAML or JSON file (`-`: standard input) with the fields of
 * fastgpu.scheduler.v1.Task. A relative working directory of a process starts at the file's folder
 * (at the current one for standard input). Throws a CliError that says what is wrong and where.
 */
export function taskFromFile(file: string): Task {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new CliError(`the spec file ${file} cannot be read`, {
      why: (error as Error).message,
      cause: error,
    });
  }
  const folder = file === "-" ? process.cwd() : dirname(resolve(file));
  try {
    return taskFromText(text, folder);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    throw new CliError(`${file}: ${error.message}`, {
      ...(error.why === undefined ? {} : { why: error.why }),
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

/** The same from text; relative working directories start at `folder`. */
export function taskFromText(text: string, folder: string): Task {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new CliError("it is neither YAML nor JSON", {
      why: (error as Error).message.split("\n")[0] ?? "",
      cause: error,
    });
  }
  const form = toJsonForm(TaskSchema, value);
  let task: Task;
  try {
    task = fromJson(TaskSchema, form);
  } catch (error) {
    throw new CliError("it is not a task", { why: (error as Error).message, cause: error });
  }
  const runtime = task.spec?.runtime;
  if (runtime?.case === "process" && runtime.value.workingDir !== "") {
    runtime.value.workingDir = resolve(folder, runtime.value.workingDir);
  }
  return task;
}

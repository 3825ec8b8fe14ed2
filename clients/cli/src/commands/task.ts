import { type Command, Option } from "commander";
import {
  cpuMillis,
  durationMs,
  keyValue,
  memoryMib,
  repeated,
  timeMs,
  usdNanos,
  wholeNumber,
} from "../parse/quantities.ts";
import type { Runner } from "./define.ts";

const RUN_EXAMPLES = `
Examples:
  fastgpu task run --gpus 1 -- nvidia-smi                              a process on a worker
  fastgpu task run --gpus 1 --image pytorch/pytorch -- python train.py in a container
  fastgpu task run -f examples/digits/task.yaml --name again           a spec file, with a change
  fastgpu task run --replicas 4 --within rack --gpus 8 -- ./train.sh   a gang: RANK says which
  fastgpu task run --array 10000 --parallel 64 -- ./work.sh            FASTGPU_ARRAY_INDEX says which

Without --detach the log is followed: Ctrl-C detaches and the task goes on. The exit code is the
task's own (fastgpu help exit-codes). With -o json the log goes to standard error and the finished
task to standard output.
`;

const QUOTE_EXAMPLES = `
Examples:
  fastgpu task quote --gpus 8 --max-runtime 2h -- python train.py      nothing is submitted
  fastgpu task quote -f examples/digits/task.yaml -o json
  fastgpu task run --max-cost 8.641 --gpus 8 -- python train.py        bound by what was quoted

The command below a change submits the task so, and does not follow it.
`;

const EXPLAIN_EXAMPLES = `
Examples:
  fastgpu task explain TASK                              everything that it waits for, and what would start it
  fastgpu task explain TASK -o json | jq -r '.remedies[].command'

Each remedy was tried on a copy of the present state; the command below it applies it.
`;

const RERUN_EXAMPLES = `
Examples:
  fastgpu task rerun TASK                                the same once more
  fastgpu task rerun TASK --set spec.resources.gpu.count=2 --set spec.simulated=allow
  fastgpu task rerun TASK --set spec.topology=null       without this field
  fastgpu task rerun TASK --to-project projects/PROJECT  in another queue

A task that still waits is cancelled once the new one is accepted; tasks that depend on it see that.
`;

/** `task`: submit, read, follow and cancel work. */
export function addTaskCommands(runner: Runner): void {
  const task = runner.group("task", "submit, follow and read tasks");

  const run = task.remote("run", "submit a task, follow it, and end with its exit code");
  addSpecOptions(run.command)
    .option("-d, --detach", "do not follow: print the task and end")
    .option("--dry-run", "check the task, print what would be submitted, change nothing")
    .addHelpText("after", RUN_EXAMPLES);
  run.run(async () => ({ run: (await import("../run/task-run.ts")).runTask }));

  const create = task.remote("create", "make a draft that waits for submit");
  addSpecOptions(create.command);
  create.run(async () => ({ run: (await import("../run/task-run.ts")).createTask }));

  const quote = task.remote("quote", "say when a task would start and what it can cost at most");
  addSpecOptions(quote.command).addHelpText("after", QUOTE_EXAMPLES);
  quote.run(async () => ({ run: (await import("../run/task-explain.ts")).quoteTask }));

  const submit = task.remote("submit", "submit a draft");
  submit.command.argument("<task>");
  submit.run(async () => ({ run: (await import("../run/task-read.ts")).submitTask }));

  const list = task.remote("list", "list tasks, newest first");
  list.command
    .option("--state <state>", "only tasks in this state, for example running")
    .option("-l, --label <key=value>", "only tasks with this label; repeatable", keyValue())
    .option("--name <name>", "only tasks of this name")
    .option(
      "--filter <filter>",
      'a filter of the API, for example "state = RUNNING AND labels.team = vision"',
    )
    .option("--limit <n>", "greatest number of tasks; 0: all", wholeNumber(0, 1_000_000), 50);
  list.run(async () => ({ run: (await import("../run/task-read.ts")).listTasks }));
  addReadCommands(task);
  addFollowCommands(task);
}

function addReadCommands(task: ReturnType<Runner["group"]>): void {
  const get = task.remote("get", "show a task, a gang with its members; -o wide with its attempts");
  get.command.argument("<task>");
  get.run(async () => ({ run: (await import("../run/task-read.ts")).getTask }));

  const attempts = task.remote("attempts", "list the attempts of a task, oldest first");
  attempts.command.argument("<task>");
  attempts.run(async () => ({ run: (await import("../run/task-read.ts")).listAttempts }));

  const explain = task.remote("explain", "say what a task waits for and what would start it");
  explain.command.argument("<task>").addHelpText("after", EXPLAIN_EXAMPLES);
  explain.run(async () => ({ run: (await import("../run/task-explain.ts")).explainTask }));

  const rerun = task.remote("rerun", "submit a task again, with changes");
  rerun.command
    .argument("<task>")
    .option("--set <path=value>", "a field and its value, in JSON or as text; repeatable", repeated)
    .option("--to-project <project>", "submit it in another project of the organisation")
    .option(
      "--keep",
      "leave the old task in line: without this it is cancelled where it still waits",
    )
    .addHelpText("after", RERUN_EXAMPLES);
  rerun.run(async () => ({ run: (await import("../run/task-rerun.ts")).rerunTask }));

  const result = task.remote("result", "list, print or fetch the files that a task left");
  result.command
    .argument("<task>")
    .argument("[path]", "one file, printed to standard output")
    .option(
      "--dir <directory>",
      "fetch all files into this directory, checked against their checksums",
    )
    .option("--wait", "wait until the task has ended; its exit code is this command's");
  result.run(async () => ({ run: (await import("../run/task-result.ts")).taskResult }));

  const cancel = task.remote("cancel", "stop tasks: the stop signal, the grace time, then a kill");
  cancel.command
    .argument("<task...>")
    .option("--reason <text>", "why, for people")
    .option("--wait", "wait until they have ended");
  cancel.run(async () => ({ run: (await import("../run/task-read.ts")).cancelTasks }));
}

function addFollowCommands(task: ReturnType<Runner["group"]>): void {
  const watch = task.remote("watch", "print each change of a task until it has ended");
  watch.command.argument("<task>");
  watch.run(async () => ({ run: (await import("../run/task-watch.ts")).watchTask }));

  const logs = task.remote("logs", "print a task's output");
  logs.command
    .argument("<task>")
    .option("-f, --follow", "go on until the task has ended; its exit code is this command's")
    .option("--index <n>", "only this element of an array", wholeNumber(0, 999_999))
    .option("--rank <n>", "only this member of a gang", wholeNumber(0, 1_023))
    .option("--cursor <cursor>", "start after this position")
    .option("--timestamps", "begin each line with the time of its arrival");
  logs.run(async () => ({ run: (await import("../run/task-logs.ts")).taskLogs }));
}

function addSpecOptions(command: Command): Command {
  return command
    .argument("[command...]", "what to run, after --")
    .option("-f, --file <file>", "task in YAML or JSON, - for standard input; options win over it")
    .option(
      "--image <image>",
      "container image; without one the command is a process on the worker",
    )
    .option("-n, --name <name>", "a name for people")
    .option(
      "-e, --env <key=value>",
      "environment variable; a bare key takes its value from here",
      keyValue(process.env),
    )
    .option("-l, --label <key=value>", "label", keyValue())
    .option("--workdir <path>", "working directory")
    .option("-g, --gpus <n>", "number of GPUs", wholeNumber(0, 1024))
    .option("--gpu-model <model>", "model that will do, best first; repeatable", repeated)
    .option("--gpu-memory <size>", "least memory of each GPU, for example 40Gi", memoryMib)
    .option("--cpu <cores>", "CPU cores, for example 2 or 500m", cpuMillis)
    .option("--memory <size>", "memory, for example 512Mi or 16Gi", memoryMib)
    .option("--disk <size>", "scratch disk, for example 20Gi", memoryMib)
    .option(
      "--replicas <n>",
      "members of a gang, which start together; RANK and WORLD_SIZE say which",
      wholeNumber(1, 1_024),
    )
    .addOption(
      new Option("--within <place>", "all members of the gang within one such place").choices([
        "node",
        "nvlink",
        "rack",
      ]),
    )
    .addOption(
      new Option("--spread-over <place>", "no two members in one such place").choices([
        "node",
        "rack",
      ]),
    )
    .option("--array <n>", "run n elements of the same task", wholeNumber(1, 1_000_000))
    .option("--parallel <n>", "greatest number of elements at once", wholeNumber(1, 1_000_000))
    .option("--max-runtime <duration>", "longest run of one attempt, for example 2h", durationMs)
    .option(
      "--max-cost <usd>",
      "the most that it may cost in all, exact to nine decimals",
      usdNanos,
    )
    .option("--stop-grace <duration>", "time between stop signal and kill", durationMs)
    .addOption(
      new Option("--simulated <policy>", "whether a simulated GPU will do").choices([
        "allow",
        "forbid",
      ]),
    )
    .option("--retries <n>", "attempts after the first", wholeNumber(0, 100))
    .option(
      "--output <glob>",
      "files of FASTGPU_OUTPUT_DIR to keep; default all; repeatable",
      repeated,
    )
    .option(
      "--input <artifact:path>",
      "artifact to place below FASTGPU_INPUT_DIR; repeatable",
      repeated,
    )
    .option(
      "--depends-on <task[:condition]>",
      "wait until it has succeeded, failed or ended; repeatable",
      repeated,
    )
    .option("--priority <n>", "higher goes first, -100 to 100", wholeNumber(-100, 100))
    .option("--start-after <when>", "not before this time, or so long from now", timeMs)
    .option(
      "--set <path=value>",
      "a field of the task and its value, in JSON or as text; wins over all else; repeatable",
      repeated,
    )
    .option("--preemptible", "may be stopped for others and goes on from its checkpoint")
    .option("--no-preemptible", "overrides the spec file");
}

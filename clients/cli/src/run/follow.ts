import { LogStream, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { LogRecord } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import type { Api } from "../api/connect.ts";
import type { Terminal } from "../output/terminal.ts";
import { lastPart } from "../output/values.ts";
import { readResuming } from "./resume.ts";
import { isTerminal, stateText } from "./views.ts";

/** What following a task needs. */
export interface FollowOptions {
  api: Api;
  terminal: Terminal;
  /** Resource name of the task. */
  name: string;
  signal: AbortSignal;
}

/** Follows a task's state to its end, calling `onChange` for each state, and returns the last one. */
export async function watchToEnd(
  { api, terminal, name, signal }: FollowOptions,
  onChange: (task: Task) => void,
): Promise<Task | undefined> {
  let last: Task | undefined;
  await readResuming({
    open: () => api.tasks.watchTask({ name, afterRevision: last?.revision ?? 0n }, { signal }),
    take({ task }) {
      if (task === undefined) return false;
      last = task;
      onChange(task);
      return isTerminal(task.state);
    },
    complete: () => false,
    onBreak: (fault) =>
      terminal.err(
        `connection lost (${fault.message}); watching goes on at revision ${last?.revision ?? 0}\n`,
      ),
    onResume: () => terminal.err("connected again\n"),
    restart: () => (last = undefined),
    signal,
  });
  return last;
}

/** Says on standard error each state of a task that is news, and why it is so. */
export function stateTeller({ err, paintErr }: Terminal): (task: Task) => void {
  let told = "";
  return (task) => {
    const text = stateText(task);
    if (text === told) return;
    told = text;
    const why = task.statusMessage === "" ? "" : `: ${task.statusMessage}`;
    err(`${paintErr.dim(`[${text}${why}]`)}\n`);
  };
}

/** Which part of a log is read. */
export interface LogOptions extends FollowOptions {
  /** Position after which to begin. */
  cursor?: string;
  /** Until the task has ended. */
  follow: boolean;
  /** Only this element of an array. */
  arrayIndex?: number | undefined;
  /** Only this member of a gang. */
  rank?: number | undefined;
}

/** Reads a log from a cursor, over lost connections, and hands each record on in order. */
export async function readLog(
  options: LogOptions,
  onRecord: (record: LogRecord) => void,
): Promise<void> {
  const { api, terminal, name, signal, follow, arrayIndex, rank } = options;
  let cursor = options.cursor ?? "";
  await readResuming({
    open: () =>
      api.tasks.readLogs(
        {
          ...{ name, cursor, follow },
          ...(arrayIndex === undefined ? {} : { arrayIndex }),
          ...(rank === undefined ? {} : { rank }),
        },
        { signal },
      ),
    take({ records }) {
      for (const record of records) {
        onRecord(record);
        cursor = record.cursor;
      }
    },
    // A followed log that ends while its task goes on was cut off in silence.
    complete: async () =>
      !follow || isTerminal((await api.tasks.getTask({ name }, { signal })).state),
    onBreak: (fault) =>
      terminal.err(
        `\nlog: connection lost (${fault.message}); it goes on after ${cursor || "the beginning"}\n`,
      ),
    onResume: () => terminal.err("log: connected again\n"),
    signal,
  });
}

/** Writes records as the task wrote them: its stdout to ours, all else to stderr. */
export function rawLogWriter(
  terminal: Terminal,
  { toErr = false } = {},
): (record: LogRecord) => void {
  return (record) => {
    if (record.stream === LogStream.STDOUT && !toErr) terminal.out(record.data);
    else terminal.err(record.data);
  };
}

/** Says how to come back to a task that goes on without us. */
export function sayDetached(terminal: Terminal, name: string): void {
  const id = lastPart(name);
  terminal.err(
    `\ndetached from ${id}, which goes on.\n` +
      `  follow: fastgpu task logs --follow ${id}\n` +
      `  cancel: fastgpu task cancel ${id}\n`,
  );
}

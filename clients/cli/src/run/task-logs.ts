import { LogStream, LogStreamSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { LogRecord } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { withApi } from "../api/connect.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { enumName, isoTime, lastPart } from "../output/values.ts";
import { type Terminal } from "../output/terminal.ts";
import { rawLogWriter, readLog, sayDetached, watchToEnd } from "./follow.ts";
import { exitCodeOfTask } from "./task-exit.ts";
import { taskName } from "./task-read.ts";

/** Options of `task logs`. */
export interface LogsOptions extends CommonOptions {
  follow?: boolean;
  index?: number;
  rank?: number;
  cursor?: string;
  timestamps?: boolean;
}

/** `task logs TASK`: the bytes as the task wrote them, on a terminal and in a pipe; records with -o json. */
export async function taskLogs(
  context: CliContext,
  options: LogsOptions,
  typed: string,
): Promise<number> {
  const { terminal } = context;
  return await withApi(context, options, async (api) => {
    const name = await taskName(api, typed);
    const follow = options.follow === true;
    const signal = context.interruptible();
    const common = { api, terminal, name, signal };
    await readLog(
      {
        ...common,
        follow,
        arrayIndex: options.index,
        rank: options.rank,
        ...(options.cursor === undefined ? {} : { cursor: options.cursor }),
      },
      await recordWriter(terminal, options),
    );
    if (signal.aborted) {
      if (follow) sayDetached(terminal, name);
      return exitCodes.interrupted;
    }
    if (!follow) return exitCodes.ok;
    // The log is complete before the outputs are kept: the task's end may be a moment away.
    const last = await watchToEnd(common, () => undefined);
    if (last !== undefined) return exitCodeOfTask(last);
    sayDetached(terminal, name);
    return exitCodes.interrupted;
  });
}

async function recordWriter(
  terminal: Terminal,
  options: LogsOptions,
): Promise<(record: LogRecord) => void> {
  if (options.format === "json" || options.format === "ndjson") {
    return (record) => terminal.out(`${JSON.stringify(recordForm(record))}\n`);
  }
  if (options.format === "yaml") {
    const { toYaml } = await import("../output/yaml.ts");
    return (record) => terminal.out(`---\n${toYaml(recordForm(record))}`);
  }
  return options.timestamps === true ? timestampWriter(terminal) : rawLogWriter(terminal);
}

/** A record for programs: text where the bytes are UTF-8, else base64 in `data`. */
function recordForm(record: LogRecord): Record<string, unknown> {
  const { data } = record;
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8");
  return {
    time: isoTime(record.time),
    stream: enumName(LogStreamSchema, record.stream).toLowerCase(),
    attempt: lastPart(record.attempt),
    ...(record.arrayIndex === undefined ? {} : { arrayIndex: record.arrayIndex }),
    ...(record.rank === undefined ? {} : { rank: record.rank }),
    cursor: record.cursor,
    ...(text.includes("\uFFFD") ? { data: Buffer.from(data).toString("base64") } : { text }),
  };
}

/** Begins each line with the time at which its first bytes came. */
function timestampWriter(terminal: Terminal): (record: LogRecord) => void {
  const atLineStart = new Map<LogStream, boolean>();
  return (record) => {
    const write = record.stream === LogStream.STDOUT ? terminal.out : terminal.err;
    const bytes = Buffer.from(record.data.buffer, record.data.byteOffset, record.data.byteLength);
    let from = 0;
    while (from < bytes.length) {
      const lineEnd = bytes.indexOf(0x0a, from);
      const to = lineEnd < 0 ? bytes.length : lineEnd + 1;
      if (atLineStart.get(record.stream) !== false) write(`${isoTime(record.time)} `);
      write(bytes.subarray(from, to));
      atLineStart.set(record.stream, lineEnd >= 0);
      from = to;
    }
  };
}

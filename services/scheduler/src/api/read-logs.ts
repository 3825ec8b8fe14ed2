import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { LogStream } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type {
  LogRecordSchema,
  ReadLogsRequest,
  ReadLogsResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { AttemptId } from "@fastgpu/domain/ids";
import { decodeFrames } from "@fastgpu/domain/log-frame";
import { memberName, parseMemberName } from "@fastgpu/domain/member-name";
import { isTerminal } from "@fastgpu/domain/states";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { listAttemptsOf, readAttempts, type StoredAttempt } from "../store/attempts.ts";
import { taskOf, tenantOf } from "./names.ts";
import { readTaskOf } from "./read-task.ts";

type Record = MessageInitShape<typeof LogRecordSchema>;

/** A reader's credit a range: what of a log is under way at most. */
const rangeBytes = 256 * 1024;
/** How long a worker waits for something new before it answers with nothing. */
const waitMs = 10_000;
/** The pause before a worker that is away is asked again. */
const retryMs = 500;

/** A stretch of one attempt's log. */
interface Range {
  readonly records: readonly Record[];
  readonly nextOffset: number;
  /** Nothing follows in this attempt. */
  readonly end: boolean;
}

/** Reads a task's log over all of its attempts, from a cursor, and follows it until the task has ended. */
export async function* readLogs(
  s: Scheduler,
  request: ReadLogsRequest,
  context: CallContext,
): AsyncGenerator<MessageInitShape<typeof ReadLogsResponseSchema>> {
  const id = taskOf(request.name);
  const tenant = tenantOf(context);
  let position = parseCursor(request.cursor);
  for (;;) {
    const changed = s.watchers.changed(id, { pollMs: 1_000, signal: context.signal });
    // The state is read before the attempts: a task seen as ended has no attempts to come.
    const task = await readTaskOf(s, tenant, { id, name: request.name });
    for (;;) {
      const attempt = await nextAttempt(s, { task: task.id, rank: request.rank }, position);
      if (attempt === undefined) break;
      let offset = isAt(position, attempt) ? position.offset : 0;
      for await (const range of readAttempt(
        s,
        { attempt, offset, follow: request.follow },
        context,
      )) {
        const records = range.records
          .filter(
            ({ arrayIndex }) =>
              request.arrayIndex === undefined || arrayIndex === request.arrayIndex,
          )
          .map((record) => (task.replicas === 1 ? record : { ...record, rank: attempt.member }));
        if (records.length > 0) yield { records };
        offset = range.nextOffset;
      }
      if (context.signal.aborted) return;
      const { id: done, member, epoch } = attempt;
      position = { attempt: done, member, epoch, offset, done: true };
    }
    if (!request.follow || isTerminal(task.state)) return;
    await changed;
    if (context.signal.aborted) return;
  }
}

interface Position {
  readonly attempt: AttemptId;
  readonly member: number;
  readonly epoch: number;
  readonly offset: number;
  /** The attempt's log was read to its end. */
  readonly done: boolean;
}

const isAt = (
  position: Position | undefined,
  { id, member }: StoredAttempt,
): position is Position => position?.attempt === id && position.member === member;

/**
 * The member to go on with: the cursor's own, or the one after it, which is the next by rank of its attempt or the first
 * of the attempt after. With a rank only members of that rank are read.
 */
async function nextAttempt(
  s: Scheduler,
  of: { task: StoredAttempt["task"]; rank: number | undefined },
  position: Position | undefined,
): Promise<StoredAttempt | undefined> {
  const wanted = ({ member }: StoredAttempt): boolean => member === (of.rank ?? member);
  if (position !== undefined) {
    const own = await readAttempts(s.core, [position.attempt]);
    const from = position.done ? position.member + 1 : position.member;
    if (!position.done && (own[0]?.task !== of.task || own.length <= from)) {
      throw Fault.invalid("cursor", "is not a position in this task's log");
    }
    const next = own.find((attempt) => attempt.member >= from && wanted(attempt));
    if (next !== undefined) return next;
  }
  for (let after = position; ;) {
    const page = { afterEpoch: after?.epoch ?? -1, afterId: after?.attempt, limit: 1 };
    const [head] = await listAttemptsOf(s.core, of.task, page);
    if (head === undefined) return undefined;
    if (wanted(head)) return head;
    const member = (await readAttempts(s.core, [head.id])).find(wanted);
    if (member !== undefined) return member;
    after = { attempt: head.id, member: 0, epoch: head.epoch, offset: 0, done: true };
  }
}

async function* readAttempt(
  s: Scheduler,
  of: { attempt: StoredAttempt; offset: number; follow: boolean },
  context: CallContext,
): AsyncGenerator<Range> {
  let { attempt, offset } = of;
  const { signal } = context;
  while (!signal.aborted) {
    if (attempt.logArtifact !== undefined) {
      yield* readStored(s, { attempt, offset, artifact: attempt.logArtifact }, context);
      return;
    }
    const range = await readLive(s, { attempt, offset, follow: of.follow }, context);
    if (range !== undefined) {
      offset = range.nextOffset;
      yield range;
      if (range.end || (!of.follow && range.records.length === 0)) return;
      continue;
    }
    // The log may have moved to storage while its worker was asked.
    const { id, member } = attempt;
    const present = (await readAttempts(s.core, [id])).find((each) => each.member === member);
    if (present === undefined) return;
    const moved = present.logArtifact !== undefined;
    attempt = present;
    if (moved) continue;
    if (attempt.state === "ENDED") {
      yield lostLog(attempt, offset);
      return;
    }
    if (!of.follow) throw unreachable(attempt);
    await sleep(retryMs, signal);
  }
}

async function readLive(
  s: Scheduler,
  of: { attempt: StoredAttempt; offset: number; follow: boolean },
  context: CallContext,
): Promise<Range | undefined> {
  const { attempt, offset } = of;
  const answer = await s.logs.read(
    attempt.node,
    { attempt: nameOf(attempt), offset, maxBytes: rangeBytes, waitMs: of.follow ? waitMs : 0 },
    context.signal,
  );
  if (answer === undefined || answer.error !== "") return undefined;
  const records = answer.frames.map((frame): Record => ({
    stream: frame.stream,
    time: timestampFromMs(Number(frame.timeMs)),
    data: frame.data,
    cursor: cursorText(attempt, Number(frame.endOffset)),
    attempt: attemptName(attempt),
    ...(frame.arrayIndex === undefined ? {} : { arrayIndex: frame.arrayIndex }),
  }));
  return { records, nextOffset: Number(answer.nextOffset), end: answer.end };
}

const streamOf = {
  stdout: LogStream.STDOUT,
  stderr: LogStream.STDERR,
  system: LogStream.SYSTEM,
} as const;

/** Reads a log that was moved to storage: the worker's own file, frames and all. */
async function* readStored(
  s: Scheduler,
  of: { attempt: StoredAttempt; offset: number; artifact: string },
  context: CallContext,
): AsyncGenerator<Range> {
  const { attempt } = of;
  // A worker named it, and this service may read every project: only its own project's counts.
  const name = `projects/${attempt.project}/artifacts/${of.artifact.split("/").at(-1) ?? ""}`;
  let offset = of.offset;
  let rest = Buffer.alloc(0);
  const parts = s.storage.downloadArtifact({ name, offset: BigInt(offset) }, { parent: context });
  for await (const part of parts) {
    const bytes = Buffer.concat([rest, part.data]);
    const frames = decodeFrames(bytes);
    const base = offset;
    const records = frames.map(({ record, end }): Record => ({
      stream: streamOf[record.stream],
      time: timestampFromMs(Math.trunc(record.timeMs)),
      data: Uint8Array.from(record.data),
      cursor: cursorText(attempt, base + end),
      attempt: attemptName(attempt),
      ...(record.element === undefined ? {} : { arrayIndex: record.element }),
    }));
    const used = frames.at(-1)?.end ?? 0;
    rest = bytes.subarray(used);
    offset += used;
    yield { records, nextOffset: offset, end: false };
  }
}

function lostLog(attempt: StoredAttempt, offset: number): Range {
  const text = "the rest of this attempt's log was lost with its node\n";
  const record: Record = {
    stream: LogStream.SYSTEM,
    time: timestampFromMs(attempt.endedMs ?? attempt.leaseMs),
    data: Buffer.from(text),
    cursor: cursorText(attempt, offset),
    attempt: attemptName(attempt),
  };
  // An attempt that wrote nothing leaves no log; only a lost node takes one with it.
  const silent = attempt.runningMs === undefined || attempt.exitClass !== "node_lost";
  return { records: silent ? [] : [record], nextOffset: offset, end: true };
}

const nameOf = ({ id, member }: StoredAttempt): string => memberName({ attempt: id, member });

const attemptName = ({ project, task, id }: StoredAttempt): string =>
  `projects/${project}/tasks/${task}/attempts/${id}`;

const cursorText = (attempt: StoredAttempt, offset: number): string =>
  `${nameOf(attempt)}.${attempt.epoch}.${offset}`;

function parseCursor(cursor: string): Position | undefined {
  if (cursor === "") return undefined;
  const [id, epoch, offset, ...rest] = cursor.split(".");
  const who = parseMemberName(id ?? "");
  const numbers = [Number(epoch), Number(offset)];
  if (
    who === undefined ||
    rest.length > 0 ||
    !numbers.every((n) => Number.isSafeInteger(n) && n >= 0)
  ) {
    throw Fault.invalid("cursor", "must be the cursor of a log record, or empty");
  }
  return { ...who, epoch: numbers[0] ?? 0, offset: numbers[1] ?? 0, done: false };
}

function unreachable(attempt: StoredAttempt): Fault {
  return new Fault("WORKER_UNREACHABLE", `nodes/${attempt.node} is not connected at the moment`, {
    hint: "follow the log to wait for it, or try again",
    metadata: { node: `nodes/${attempt.node}` },
    retryAfterMs: 1_000,
  });
}

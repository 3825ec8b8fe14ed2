import { toJson } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Attempt,
  type AttemptMember,
  AttemptMemberSchema,
  AttemptSchema,
  AttemptStateSchema,
  ExitClassSchema,
  QueueReasonSchema,
  type Task,
  TaskSchema,
  TaskState,
  TaskStateSchema,
  type TopologyLevel,
  TopologyLevelSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { View } from "../output/print.ts";
import type { Paint } from "../output/terminal.ts";
import {
  age,
  enumName,
  isoTime,
  lastPart,
  money,
  shortDuration,
  timeMs,
} from "../output/values.ts";

/** `RUNNING`, `QUEUED (NO_CAPACITY)`, `FAILED (USER_EXIT 3)`: the state and what makes it so. */
export function stateText(task: Task): string {
  const state = enumName(TaskStateSchema, task.state);
  if (task.state === TaskState.QUEUED && task.queueReason !== 0) {
    return `${state} (${enumName(QueueReasonSchema, task.queueReason)})`;
  }
  if (task.state === TaskState.FAILED && task.exitClass !== 0) {
    const code = task.exitCode === undefined ? "" : ` ${task.exitCode}`;
    return `${state} (${enumName(ExitClassSchema, task.exitClass)}${code})`;
  }
  return state;
}

/** Whether nothing more can become of the task. */
export function isTerminal(state: TaskState): boolean {
  return (
    state === TaskState.SUCCEEDED || state === TaskState.FAILED || state === TaskState.CANCELLED
  );
}

/** `3/20 loss 0.1234`: the newest structured progress. */
export function progressText(task: Task): string {
  const array = task.arrayStatus;
  if (array !== undefined && task.spec?.array !== undefined) {
    const failed = array.failed > 0 ? `, ${array.failed} failed` : "";
    return `${array.succeeded}/${task.spec.array.count} done${failed}`;
  }
  const { progress } = task;
  if (progress === undefined) return "";
  const steps = progress.of > 0n ? `${progress.step}/${progress.of}` : `${progress.step}`;
  const metrics = Object.entries(progress.metrics)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  return [steps, ...metrics].join("  ");
}

/** `2 × NVIDIA H200` or `1 × … (simulated)`; before a lease, what was asked for. */
function gpuText(task: Task): string {
  const [first] = task.gpus;
  const { resources, replicas = 1 } = task.spec ?? {};
  if (first === undefined) return String((resources?.gpu?.count ?? 0) * Math.max(1, replicas));
  const simulated = task.gpus.some((gpu) => gpu.simulated) ? " (simulated)" : "";
  return `${task.gpus.length} × ${first.model}${simulated}`;
}

/** `4 members within one rack, no two on one node` */
function gangText({ spec }: Task): string {
  if (spec === undefined || spec.replicas < 2) return "";
  const place = (level: TopologyLevel): string =>
    enumName(TopologyLevelSchema, level).toLowerCase();
  const { within = 0, spreadOver = 0 } = spec.topology ?? {};
  const wishes = [
    ...(within === 0 ? [] : [` within one ${place(within)}`]),
    ...(spreadOver === 0 ? [] : [`no two in one ${place(spreadOver)}`]),
  ];
  return `${spec.replicas} members${within === 0 && spreadOver !== 0 ? ", " : ""}${wishes.join(", ")}`;
}

function ranFor(task: Task, nowMs: number): string {
  if (task.startTime === undefined) return "";
  const end = task.endTime === undefined ? nowMs : timeMs(task.endTime);
  return shortDuration(Math.max(0, end - timeMs(task.startTime)));
}

function paintState(paint: Paint, cell: string, state: TaskState): string {
  if (state === TaskState.SUCCEEDED) return paint.green(cell);
  if (state === TaskState.FAILED) return paint.red(cell);
  if (state === TaskState.RUNNING) return paint.blue(cell);
  return cell;
}

/** How tasks are shown. */
export function taskView(paint: Paint, nowMs: number): View<Task> {
  return {
    columns: [
      { header: "task", value: (task) => lastPart(task.name) },
      { header: "name", value: (task) => task.displayName },
      {
        header: "state",
        value: stateText,
        paint: (cell, task) => paintState(paint, cell, task.state),
      },
      { header: "progress", value: progressText },
      { header: "gpus", value: gpuText },
      { header: "ran", value: (task) => ranFor(task, nowMs), align: "right" },
      { header: "age", value: (task) => age(task.createTime, nowMs), align: "right" },
      { header: "cost", value: (task) => money(task.cost), align: "right" },
      {
        header: "attempts",
        value: (task) => String(task.attemptCount),
        align: "right",
        wide: true,
      },
      { header: "node", value: (task) => lastPart(task.node), wide: true },
      { header: "labels", value: labelsText, wide: true },
    ],
    id: (task) => lastPart(task.name),
    json: (task) => toJson(TaskSchema, task),
    facts: (task) => taskFacts(task, nowMs),
  };
}

function labelsText(task: Task): string {
  return Object.entries(task.labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

function taskFacts(task: Task, nowMs: number): [string, string][] {
  const { runtime } = task.spec ?? {};
  const image = runtime?.case === "container" ? runtime.value.image : "";
  const files = task.result?.files.map((file) => file.path).join(", ") ?? "";
  return [
    ["task", task.name],
    ["name", task.displayName],
    ["state", stateText(task)],
    ["status", task.statusMessage],
    ["progress", progressText(task)],
    ["image", image],
    ["command", runtime?.value?.command.join(" ") ?? ""],
    ["gpus", gpuText(task)],
    ["gang", gangText(task)],
    ["node", task.node],
    ["attempts", String(task.attemptCount)],
    ["preemptions", task.preemptions === 0 ? "" : String(task.preemptions)],
    ["gpu time", task.gpuTime === undefined ? "" : shortDuration(durationMs(task.gpuTime))],
    ["starts after", isoTime(task.spec?.startAfter)],
    ["labels", labelsText(task)],
    ["created", isoTime(task.createTime)],
    ["started", isoTime(task.startTime)],
    ["ended", isoTime(task.endTime)],
    ["ran", ranFor(task, nowMs)],
    ["cost", money(task.cost)],
    ["result", files],
    ["trace", task.traceId],
  ];
}

/** The node, or how many a gang's members are on. */
function nodesText({ node, members }: Attempt): string {
  const nodes = new Set(members.map((member) => member.node));
  return members.length === 0
    ? lastPart(node)
    : `${members.length} members on ${nodes.size} node${nodes.size === 1 ? "" : "s"}`;
}

/** How attempts are shown. */
export const attemptView: View<Attempt> = {
  columns: [
    { header: "attempt", value: (attempt) => lastPart(attempt.name) },
    { header: "state", value: (attempt) => enumName(AttemptStateSchema, attempt.state) },
    {
      header: "class",
      value: (attempt) =>
        attempt.exitClass === 0 ? "" : enumName(ExitClassSchema, attempt.exitClass),
    },
    { header: "code", value: (attempt) => attempt.exitCode?.toString() ?? "", align: "right" },
    { header: "node", value: nodesText },
    {
      header: "checkpoint",
      value: (attempt) =>
        attempt.checkpointTime === undefined ? "" : isoTime(attempt.checkpointTime),
    },
    { header: "stored", value: (attempt) => (attempt.checkpointStored ? "yes" : "") },
    { header: "leased", value: (attempt) => isoTime(attempt.leaseTime) },
    { header: "ended", value: (attempt) => isoTime(attempt.endTime) },
    { header: "message", value: (attempt) => attempt.message },
  ],
  id: (attempt) => lastPart(attempt.name),
  json: (attempt) => toJson(AttemptSchema, attempt),
};

/** How the members of a gang are shown. */
export const memberView: View<AttemptMember> = {
  columns: [
    { header: "rank", value: (member) => String(member.rank), align: "right" },
    { header: "state", value: (member) => enumName(AttemptStateSchema, member.state) },
    {
      header: "class",
      value: (member) =>
        member.exitClass === 0 ? "" : enumName(ExitClassSchema, member.exitClass),
    },
    { header: "code", value: (member) => member.exitCode?.toString() ?? "", align: "right" },
    { header: "node", value: (member) => lastPart(member.node) },
    { header: "gpus", value: (member) => member.gpus.map((gpu) => lastPart(gpu.gpu)).join(",") },
    { header: "started", value: (member) => isoTime(member.startTime) },
    { header: "ended", value: (member) => isoTime(member.endTime) },
    { header: "message", value: (member) => member.message },
  ],
  id: (member) => String(member.rank),
  json: (member) => toJson(AttemptMemberSchema, member),
};

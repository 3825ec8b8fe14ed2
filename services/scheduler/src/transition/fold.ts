import { decideRetry } from "@fastgpu/domain/retry";
import {
  attemptTransitions,
  isTerminal,
  taskTransitions,
  type AttemptState,
  type ExitClass,
  type TaskState,
} from "@fastgpu/domain/states";
import type { AttemptId, GpuId, NodeId } from "@fastgpu/domain/ids";
import type { AttemptChange, ElementResults, StoredAttempt } from "../store/attempts.ts";
import type { StoredTask, TaskChange } from "../store/tasks.ts";

/** How an attempt ended, as its worker or the leader says. */
export interface AttemptEnd {
  readonly exitClass: ExitClass;
  readonly exitCode?: number;
  readonly message: string;
  /** When its last process was gone. */
  readonly goneMs: number;
  readonly manifestDigest?: string;
  readonly logArtifact?: string;
  readonly elementResults?: ElementResults;
  /** The last progress, serialized. */
  readonly progress?: Uint8Array;
  /** Set where the node was lost: nothing is known from here on. */
  readonly unknownFromMs?: number;
}

/** One fact about an attempt, in the server's time. */
export interface AttemptEvent {
  readonly attempt: AttemptId;
  /** The node that says so; a fact from another node than the attempt's is fenced. */
  readonly node: NodeId;
  readonly epoch: number;
  readonly atMs: number;
  readonly what:
    | { readonly kind: "starting" }
    | { readonly kind: "running"; readonly isolation: string }
    | { readonly kind: "stopping" }
    | { readonly kind: "finalizing" }
    | { readonly kind: "ended"; readonly end: AttemptEnd };
}

/** A task and one of its attempts on the way through events; `prev` is the last state passed. */
export interface Draft {
  readonly attempt: StoredAttempt;
  attemptChange: AttemptChange;
  /** True once its GPUs are given back. */
  released: boolean;
  unknownFromMs: number | undefined;
  touched: boolean;
}

/** The same for its task. */
export interface TaskDraft {
  readonly task: StoredTask;
  change: TaskChange;
  touched: boolean;
}

export const draftAttempt = (attempt: StoredAttempt): Draft => ({
  attempt,
  attemptChange: { id: attempt.id, prevState: attempt.state, state: attempt.state },
  released: attempt.goneMs !== undefined,
  unknownFromMs: undefined,
  touched: false,
});

export const draftTask = (task: StoredTask): TaskDraft => ({
  task,
  change: { id: task.id, prevState: task.state, state: task.state },
  touched: false,
});

/**
 * Moves an attempt and its task by one event. Events of another epoch, repeats and events that come after the end
 * change nothing: that is the fence. Answers whether anything changed.
 */
export function foldEvent(
  draft: Draft,
  taskDraft: TaskDraft,
  event: AttemptEvent,
  gpus: readonly GpuId[],
): boolean {
  const { attempt } = draft;
  if (event.epoch !== attempt.epoch || event.node !== attempt.node) return false;
  if (draft.attemptChange.state === "ENDED") return false;
  const { what } = event;
  switch (what.kind) {
    case "starting":
      if (!moveAttempt(draft, "STARTING")) return false;
      moveTask(taskDraft, attempt, "STARTING");
      return true;
    case "running": {
      if (draft.attemptChange.runningMs !== undefined || attempt.runningMs !== undefined)
        return false;
      const runningMs = Math.max(event.atMs, attempt.leaseMs);
      moveAttempt(draft, "STARTING");
      // An attempt that was told to stop before it ran stays STOPPING, but its time counts from here.
      if (draft.attemptChange.state !== "STOPPING" && !moveAttempt(draft, "RUNNING")) return false;
      draft.attemptChange = { ...draft.attemptChange, runningMs, isolation: what.isolation };
      draft.touched = true;
      moveTask(taskDraft, attempt, "STARTING");
      moveTask(taskDraft, attempt, "RUNNING", { startedMs: runningMs });
      return true;
    }
    case "stopping":
      moveAttempt(draft, "STOPPING");
      draft.attemptChange = {
        ...draft.attemptChange,
        stopDelivered: true,
        ...(attempt.stopMs === undefined ? { stopMs: event.atMs } : {}),
      };
      draft.touched = true;
      moveTask(taskDraft, attempt, "STOPPING");
      return true;
    case "finalizing":
      if (!moveAttempt(draft, "FINALIZING")) return false;
      release(draft, event.atMs);
      moveTask(taskDraft, attempt, "FINALIZING");
      return true;
    case "ended":
      endAttempt(draft, taskDraft, { event, end: what.end, gpus });
      return true;
  }
}

function release(draft: Draft, goneMs: number): void {
  if (draft.released) return;
  const startMs = draft.attemptChange.runningMs ?? draft.attempt.runningMs ?? draft.attempt.leaseMs;
  draft.attemptChange = { ...draft.attemptChange, goneMs: Math.max(goneMs, startMs) };
  draft.released = true;
  draft.touched = true;
}

function moveAttempt(draft: Draft, to: AttemptState): boolean {
  const from = draft.attemptChange.state;
  if (from === to || !attemptTransitions[from].includes(to)) return false;
  draft.attemptChange = { ...draft.attemptChange, prevState: from, state: to };
  draft.touched = true;
  return true;
}

/** Moves a plain task with its present attempt; an array moves forward only, with the first of its leases. */
function moveTask(
  draft: TaskDraft,
  attempt: StoredAttempt,
  to: TaskState,
  fields: Partial<TaskChange> = {},
): void {
  const { task } = draft;
  if (
    task.array === undefined ? task.attempt !== attempt.id : to !== "STARTING" && to !== "RUNNING"
  ) {
    return;
  }
  const from = draft.change.state;
  if (from === to || !taskTransitions[from].includes(to)) return;
  draft.change = { ...draft.change, ...fields, prevState: from, state: to };
  draft.touched = true;
}

function endAttempt(
  draft: Draft,
  taskDraft: TaskDraft,
  at: { event: AttemptEvent; end: AttemptEnd; gpus: readonly GpuId[] },
): void {
  const { event, end } = at;
  release(draft, Math.min(end.goneMs, event.atMs));
  draft.unknownFromMs = end.unknownFromMs;
  moveAttempt(draft, "ENDED");
  const isArray = taskDraft.task.array !== undefined;
  draft.attemptChange = {
    ...draft.attemptChange,
    endedMs: event.atMs,
    exitClass: end.exitClass,
    message: end.message,
    ...(end.exitCode === undefined ? {} : { exitCode: end.exitCode }),
    ...(end.manifestDigest === undefined ? {} : { manifestDigest: end.manifestDigest }),
    ...(end.logArtifact === undefined ? {} : { logArtifact: end.logArtifact }),
    ...(end.elementResults === undefined ? {} : { elementResults: end.elementResults }),
    ...(isArray ? { folded: false } : {}),
  };
  draft.touched = true;
  if (!isArray && taskDraft.task.attempt === draft.attempt.id) endPlainTask(taskDraft, at);
}

function endPlainTask(
  draft: TaskDraft,
  at: { event: AttemptEvent; end: AttemptEnd; gpus: readonly GpuId[] },
): void {
  const { task } = draft;
  if (isTerminal(draft.change.state)) return;
  if (at.end.progress !== undefined) draft.change = { ...draft.change, progress: at.end.progress };
  const { end, event, gpus } = at;
  const decision = decideRetry(end.exitClass, task.counts, task.retry);
  const ended = {
    exitClass: end.exitClass,
    exitCode: end.exitCode ?? null,
    statusMessage: end.message,
    endedMs: event.atMs,
  };
  const step = (to: TaskState, fields: Partial<TaskChange>): void => {
    // A worker may report the end straight away: the states in between were passed on its side.
    for (const via of ["STARTING", "RUNNING"] as const) {
      if (taskTransitions[draft.change.state].includes(to)) break;
      if (taskTransitions[draft.change.state].includes(via)) {
        draft.change = { ...draft.change, prevState: draft.change.state, state: via };
      }
    }
    draft.change = { ...draft.change, ...fields, prevState: draft.change.state, state: to };
    draft.touched = true;
  };
  switch (decision.kind) {
    case "succeed":
      return step("SUCCEEDED", {
        ...ended,
        ...(end.manifestDigest === undefined ? {} : { manifestDigest: end.manifestDigest }),
      });
    case "cancel":
      return step("CANCELLED", ended);
    case "fail":
      return step(task.cancelRequested ? "CANCELLED" : "FAILED", ended);
    case "requeue":
      if (task.cancelRequested) return step("CANCELLED", ended);
      return step("QUEUED", {
        exitClass: end.exitClass,
        exitCode: end.exitCode ?? null,
        statusMessage: `attempt ${task.attemptCount} ended with ${end.exitClass}: ${end.message || "tried again"}`,
        queueReason: decision.delayMs > 0 ? "RETRY_BACKOFF" : "PENDING",
        notBeforeMs: event.atMs + decision.delayMs,
        ...(decision.costsRetry
          ? { retries: task.counts.retries + 1 }
          : { freeRequeues: task.counts.freeRequeues + 1 }),
        ...(decision.excludeGpu ? { excludeGpus: [...task.excludedGpus, ...gpus] } : {}),
      });
  }
}

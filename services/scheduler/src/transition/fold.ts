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
  readonly checkpointDigest?: string;
  readonly logArtifact?: string;
  readonly elementResults?: ElementResults;
  /** The last progress, serialized. */
  readonly progress?: Uint8Array;
  /** Set where the node was lost: nothing is known from here on. */
  readonly unknownFromMs?: number;
}

/** One fact about an attempt's member, in the server's time. */
export interface AttemptEvent {
  readonly attempt: AttemptId;
  /** Rank of the member, from 0; 0 where the attempt is no gang's. */
  readonly member: number;
  /** The node that says so; a fact from another node than the member's is fenced. */
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

/** One member of an attempt on the way through events; `prevState` is the last state passed. */
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
  attemptChange: {
    ...{ id: attempt.id, member: attempt.member },
    ...{ prevState: attempt.state, state: attempt.state },
  },
  released: attempt.goneMs !== undefined,
  unknownFromMs: undefined,
  touched: false,
});

export const draftTask = (task: StoredTask): TaskDraft => ({
  task,
  change: { id: task.id, prevState: task.state, state: task.state },
  touched: false,
});

/** All members of one attempt by rank, and the GPUs that each has had. */
export interface AttemptDraft {
  readonly members: readonly Draft[];
  gpusOf(member: number): readonly GpuId[];
}

/**
 * Moves one member of an attempt, its task, and where it must be the other members, by one event. Events of another
 * epoch, repeats and events that come after the end change nothing: that is the fence. Answers whether anything changed.
 *
 * A gang starts with its first member, runs once all of its members have, is stopped whole with the first that fails,
 * and is over when all of them have ended. One member is the same.
 */
export function foldEvent(of: AttemptDraft, taskDraft: TaskDraft, event: AttemptEvent): boolean {
  const draft = of.members.find(({ attempt }) => attempt.member === event.member);
  if (draft === undefined) return false;
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
      const began = of.members.map((member) => now(member, "runningMs"));
      if (!began.includes(undefined)) {
        const startedMs = Math.max(...began.map((ms) => ms ?? 0));
        moveTask(taskDraft, attempt, "RUNNING", { startedMs });
      }
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
      if (of.members.every(isGone)) moveTask(taskDraft, attempt, "FINALIZING");
      return true;
    case "ended":
      endMember(draft, of, { event, end: what.end, taskDraft });
      return true;
  }
}

/** A field as it stands now. */
function now<K extends "runningMs" | "exitClass" | "exitCode" | "message" | "manifestDigest">(
  { attempt, attemptChange }: Draft,
  key: K,
): StoredAttempt[K] {
  return (attemptChange[key] as StoredAttempt[K] | undefined) ?? attempt[key];
}

const isGone = ({ attemptChange: { state } }: Draft): boolean =>
  state === "FINALIZING" || state === "ENDED";

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

function endMember(
  draft: Draft,
  of: AttemptDraft,
  at: { event: AttemptEvent; end: AttemptEnd; taskDraft: TaskDraft },
): void {
  const { event, end, taskDraft } = at;
  release(draft, Math.min(end.goneMs, event.atMs));
  draft.unknownFromMs = end.unknownFromMs;
  moveAttempt(draft, "ENDED");
  const isArray = taskDraft.task.array !== undefined;
  const isCause = !["ok", "gang_stopped"].includes(end.exitClass) && causeOf(of) === undefined;
  draft.attemptChange = {
    ...draft.attemptChange,
    endedMs: event.atMs,
    exitClass: end.exitClass,
    message: endMessage(draft.attempt, end),
    ...(end.exitCode === undefined ? {} : { exitCode: end.exitCode }),
    ...(end.manifestDigest === undefined ? {} : { manifestDigest: end.manifestDigest }),
    ...(end.checkpointDigest === undefined ? {} : { checkpointDigest: end.checkpointDigest }),
    ...(end.logArtifact === undefined ? {} : { logArtifact: end.logArtifact }),
    ...(end.elementResults === undefined ? {} : { elementResults: end.elementResults }),
    ...(isArray ? { folded: false } : {}),
    ...(isCause ? { cause: true } : {}),
  };
  draft.touched = true;
  if (isArray || taskDraft.task.attempt !== draft.attempt.id) return;
  if (isTerminal(taskDraft.change.state)) return;
  if (end.progress !== undefined && draft.attempt.member === 0) {
    taskDraft.change = { ...taskDraft.change, progress: end.progress };
    taskDraft.touched = true;
  }
  if (of.members.every(({ attemptChange }) => attemptChange.state === "ENDED")) {
    return endPlainTask(taskDraft, of, event.atMs);
  }
  if (end.exitClass !== "ok") stopOthers(of, at);
  else if (of.members.every(isGone)) moveTask(taskDraft, draft.attempt, "FINALIZING");
}

/** The member whose end is the attempt's. */
function causeOf({ members }: AttemptDraft): Draft | undefined {
  return members.find(({ attempt, attemptChange }) => attemptChange.cause ?? attempt.cause);
}

/** A gang goes on with all of its members or with none. */
function stopOthers(
  { members }: AttemptDraft,
  { event, end, taskDraft }: { event: AttemptEvent; end: AttemptEnd; taskDraft: TaskDraft },
): void {
  const statusMessage = `rank ${event.member} ended with ${end.exitClass}: the others are told to stop`;
  for (const draft of members) {
    if (!moveAttempt(draft, "STOPPING")) continue;
    const change = draft.attemptChange;
    draft.attemptChange = { ...change, stopClass: "gang_stopped", stopMs: event.atMs };
    moveTask(taskDraft, draft.attempt, "STOPPING", { statusMessage });
  }
}

/** How an attempt ended whose members all have: by the first that failed, well where none did. */
interface WholeEnd {
  readonly exitClass: ExitClass;
  readonly exitCode: number | undefined;
  readonly message: string;
  readonly manifestDigest: string | undefined;
  /** GPUs of the member that ended so. */
  readonly gpus: readonly GpuId[];
  /** True where the scheduler stopped it in favour of another task. */
  readonly preempted: boolean;
}

/** Whether the scheduler stopped it in favour of another task: a worker that drains says preempted too. */
export const wasPreempted = (attempt: StoredAttempt, exitClass: ExitClass | undefined): boolean =>
  exitClass === "preempted" && attempt.stopClass === "preempted";

/** In favour of whom it was stopped says more than that it was. */
const endMessage = (attempt: StoredAttempt, end: AttemptEnd): string =>
  wasPreempted(attempt, end.exitClass) ? attempt.message : end.message;

function wholeEnd(of: AttemptDraft): WholeEnd {
  const { members, gpusOf } = of;
  const first = causeOf(of) ?? members.find((draft) => now(draft, "exitClass") !== "ok");
  // Every attempt has a member 0.
  const draft = first ?? (members[0] as Draft);
  const { member } = draft.attempt;
  const message = now(draft, "message");
  const preempted = wasPreempted(draft.attempt, now(draft, "exitClass"));
  const whose = members.length > 1 && first !== undefined && !preempted ? `rank ${member}: ` : "";
  return {
    preempted,
    exitClass: now(draft, "exitClass") ?? "node_lost",
    exitCode: now(draft, "exitCode"),
    message: message === "" ? "" : `${whose}${message}`,
    manifestDigest: members[0] === undefined ? undefined : now(members[0], "manifestDigest"),
    gpus: gpusOf(member),
  };
}

function endPlainTask(draft: TaskDraft, of: AttemptDraft, atMs: number): void {
  const { task } = draft;
  const end = wholeEnd(of);
  const counted = end.preempted ? { preemptions: task.preemptions + 1 } : {};
  const decision = decideRetry(end.exitClass, task.counts, task.retry);
  const ended = {
    exitClass: end.exitClass,
    exitCode: end.exitCode ?? null,
    statusMessage: end.message,
    endedMs: atMs,
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
      if (task.cancelRequested) return step("CANCELLED", { ...ended, ...counted });
      return step("QUEUED", {
        exitClass: end.exitClass,
        exitCode: end.exitCode ?? null,
        statusMessage: `attempt ${task.attemptCount} ended with ${end.exitClass}: ${end.message || "tried again"}`,
        queueReason: decision.delayMs > 0 ? "RETRY_BACKOFF" : "PENDING",
        notBeforeMs: atMs + decision.delayMs,
        ...counted,
        ...requeueCost(decision, { task, preempted: end.preempted }),
        ...(decision.excludeGpu ? { excludeGpus: [...task.excludedGpus, ...end.gpus] } : {}),
      });
  }
}

/** Being stopped for others is no sign of a task that takes its nodes down: it counts as a preemption only. */
function requeueCost(
  { costsRetry }: { readonly costsRetry: boolean },
  { task, preempted }: { task: StoredTask; preempted: boolean },
): Partial<TaskChange> {
  const { retries, freeRequeues } = task.counts;
  if (costsRetry) return { retries: retries + 1 };
  return preempted ? {} : { freeRequeues: freeRequeues + 1 };
}

/** States of a task. DRAFT to QUEUED is the submit; SUCCEEDED, FAILED and CANCELLED are terminal. */
export const taskStates = [
  "DRAFT",
  "QUEUED",
  "SCHEDULED",
  "STARTING",
  "RUNNING",
  "STOPPING",
  "FINALIZING",
  "SUCCEEDED",
  "FAILED",
  "CANCELLED",
] as const;
export type TaskState = (typeof taskStates)[number];

/**
 * The legal transitions of a task, each state with the states that may follow it. The same pairs stand in SQL as a
 * CHECK over (prev_state, state) and in docs/states.md; a test compares the three.
 */
export const taskTransitions: Readonly<Record<TaskState, readonly TaskState[]>> = {
  DRAFT: ["QUEUED", "CANCELLED"],
  QUEUED: ["SCHEDULED", "FAILED", "CANCELLED"],
  SCHEDULED: ["STARTING", "STOPPING", "QUEUED", "FAILED", "CANCELLED"],
  STARTING: ["RUNNING", "STOPPING", "FINALIZING", "QUEUED", "FAILED", "CANCELLED"],
  RUNNING: ["STOPPING", "FINALIZING", "QUEUED", "SUCCEEDED", "FAILED", "CANCELLED"],
  STOPPING: ["FINALIZING", "QUEUED", "SUCCEEDED", "FAILED", "CANCELLED"],
  FINALIZING: ["SUCCEEDED", "FAILED", "CANCELLED", "QUEUED"],
  SUCCEEDED: [],
  FAILED: [],
  CANCELLED: [],
};

/** States of an attempt; ENDED carries an exit class. */
export const attemptStates = [
  "LEASED",
  "STARTING",
  "RUNNING",
  "STOPPING",
  "FINALIZING",
  "ENDED",
] as const;
export type AttemptState = (typeof attemptStates)[number];

/** The legal transitions of an attempt. Any live state may end: a lost node reports nothing in between. */
export const attemptTransitions: Readonly<Record<AttemptState, readonly AttemptState[]>> = {
  LEASED: ["STARTING", "STOPPING", "ENDED"],
  STARTING: ["RUNNING", "STOPPING", "FINALIZING", "ENDED"],
  RUNNING: ["STOPPING", "FINALIZING", "ENDED"],
  STOPPING: ["FINALIZING", "ENDED"],
  FINALIZING: ["ENDED"],
  ENDED: [],
};

export const terminalTaskStates = ["SUCCEEDED", "FAILED", "CANCELLED"] as const;
export type TerminalTaskState = (typeof terminalTaskStates)[number];

/** True where the task can no longer change. */
export function isTerminal(state: TaskState): state is TerminalTaskState {
  return taskTransitions[state].length === 0;
}

/** How an attempt ended. `gang_stopped` is never a cause: the first other class received is. */
export const exitClasses = [
  "ok",
  "user_exit",
  "oom_host",
  "oom_gpu",
  "timeout",
  "deadline",
  "cancelled",
  "rejected",
  "preempted",
  "node_lost",
  "image",
  "gpu_fault",
  "start_failed",
  "output_failed",
  "gang_stopped",
  "dependency",
  "budget",
] as const;
export type ExitClass = (typeof exitClasses)[number];

import type { Clock } from "@fastgpu/domain/clock";
import type { AttemptId, NodeId, TaskId } from "@fastgpu/domain/ids";
import type { Pool } from "@fastgpu/postgres/pool";
import type { Logger } from "@fastgpu/telemetry/log";
import type { PolicyFollower } from "../policy/follow.ts";
import type { StartLeaseSpan } from "./commit.ts";
import type { Dirty } from "./dirty.ts";
import type { TermFigures } from "./figures.ts";
import type { Looked } from "./looked.ts";
import type { Mirror } from "./mirror.ts";
import type { FundingTimes, HoldAnswer, HoldRequest } from "./money.ts";
import type { Planning } from "./planning.ts";
import type { Purses } from "./purses.ts";

/** What the cycle asks of billing. */
export interface Holds {
  create(leaderEpoch: bigint, requests: readonly HoldRequest[]): Promise<readonly HoldAnswer[]>;
  extend(
    leaderEpoch: bigint,
    items: readonly { attempt: AttemptId; n: number; coverMs: number }[],
  ): Promise<readonly HoldAnswer[]>;
  void(leaderEpoch: bigint, attempts: readonly AttemptId[]): Promise<void>;
  /** Attempts with open holds made under an older epoch, in order, after one. */
  listOlder(leaderEpoch: bigint, after: string): Promise<readonly string[]>;
}

/** What one term of the leader works with. */
export interface CycleContext {
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  /** The replica that leads. */
  readonly replica: string;
  readonly leaderEpoch: bigint;
  /** When the term began. */
  readonly sinceMs: number;
  readonly mirror: Mirror;
  readonly dirty: Dirty;
  readonly holds: Holds;
  readonly times: FundingTimes;
  /** The engine, with this term's picture of the fleet. */
  readonly planner: Planning;
  /** Tasks that are left out of plans for a moment, since they could not be paid for. */
  readonly purses: Purses;
  /** The policy that is in force. */
  readonly policy: PolicyFollower;
  readonly startLeaseSpan: StartLeaseSpan;
  /** Tells sessions and watchers what has changed. */
  changed(what: { tasks: Iterable<TaskId>; nodes: Iterable<NodeId> }): void;
  /** Arrays whose cancel the leader has not folded yet. */
  readonly cancelledArrays: Set<TaskId>;
  readonly timers: {
    lastSweepMs: number;
    nextBackoffMs: number;
    nextMissedMs: number;
    nextChargeMs: number;
    nextStatusMs: number;
    nextLearnMs: number;
    nextRanksMs: number;
    /** Checkpoints saved until then are in the mirror. */
    savedMs: number;
  };
  /** What this term counts of itself. */
  readonly figures: TermFigures;
  /** The last event of our own log that was looked at. */
  readonly position: { seq: bigint };
  /** Why tasks wait as it was written last; those that wait no more are forgotten now and then. */
  readonly told: Map<TaskId, string>;
  /** Revisions of tasks that were acted upon. */
  readonly looked: Looked;
}

/** Takes a change of our own into the mirror at once, and tells the others. */
export async function apply(
  c: CycleContext,
  what: { tasks: readonly TaskId[]; nodes: readonly NodeId[] },
) {
  if (what.tasks.length === 0 && what.nodes.length === 0) return;
  await c.mirror.refresh(c.core, what);
  c.changed(what);
}

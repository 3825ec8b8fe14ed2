import { create } from "@bufbuild/protobuf";
import { UsageSegmentSchema } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import type { AttemptId, GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { memberName } from "@fastgpu/domain/member-name";
import { isTerminal, type ExitClass } from "@fastgpu/domain/states";
import { appendEvents, type NewEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import {
  lockOpenAllocations,
  readGpusOfMembers,
  storeCuts,
  type StoredAllocation,
} from "../store/allocations.ts";
import {
  lockAttempts,
  readTasksOfAttempts,
  updateAttempts,
  type StoredAttempt,
} from "../store/attempts.ts";
import { storeGpuState } from "../store/nodes.ts";
import { lockTasks, updateTasks } from "../store/tasks.ts";
import { taskMoved, usageCut } from "./events.ts";
import { draftAttempt, draftTask, foldEvent, type AttemptEvent, type Draft } from "./fold.ts";
import { cutSegments } from "./usage.ts";

/** What a batch of events changed: the cycle and the watchers want to know. */
export interface Applied {
  readonly tasks: readonly TaskId[];
  readonly ended: readonly TaskId[];
  readonly nodes: readonly NodeId[];
  /** Attempts that came to their end, for logs and traces. */
  readonly endedAttempts: readonly EndedAttempt[];
}

/** An attempt that came to its end. */
export interface EndedAttempt {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly exitClass: ExitClass;
  /** Of its lease. */
  readonly traceparent: string;
}

/**
 * Applies events of attempts in one transaction, in the order given: states of attempts and tasks, GPUs given back,
 * usage cut, facts told. The only way in which a leased attempt moves. Locks in the order task, attempt, GPU.
 */
export async function applyAttemptEvents(
  tx: Tx,
  events: readonly AttemptEvent[],
  nowMs: number,
): Promise<Applied> {
  const ids = [...new Set(events.map((event) => event.attempt))].toSorted();
  const taskIds = await readTasksOfAttempts(tx, ids);
  const tasks = new Map((await lockTasks(tx, taskIds)).map((task) => [task.id, draftTask(task)]));
  const attempts = Map.groupBy(
    (await lockAttempts(tx, ids)).map(draftAttempt),
    ({ attempt }) => attempt.id,
  );
  const gpus = await readFaulty(tx, events, attempts);

  for (const event of events) {
    const members = attempts.get(event.attempt) ?? [];
    const task = tasks.get(members[0]?.attempt.task as TaskId);
    if (task === undefined) continue;
    const gpusOf = (member: number): readonly GpuId[] =>
      gpus.get(memberName({ attempt: event.attempt, member })) ?? [];
    foldEvent({ members, gpusOf }, task, event);
  }

  const touched = [...attempts.values()].flat().filter((draft) => draft.touched);
  const gone = touched.filter(({ released, attempt }) => released && attempt.goneMs === undefined);
  const allocations = await lockOpenAllocations(
    tx,
    gone.map(({ attempt }) => attempt),
  );
  const usage = cutReleased(gone, { attempts, allocations, nowMs });
  const moved = [...tasks.values()].filter((draft) => draft.touched);
  await updateTasks(
    tx,
    moved.map((draft) => draft.change),
  );
  await updateAttempts(
    tx,
    touched.map((draft) => draft.attemptChange),
  );
  await storeCuts(tx, usage.cuts);
  if (usage.idle.length > 0) await storeGpuState(tx, usage.idle, "IDLE");
  if (usage.unknown.length > 0) await storeGpuState(tx, usage.unknown, "UNKNOWN");
  await appendEvents(tx, [
    ...moved.flatMap(({ task, change }) => taskMoved(task, change, nowMs)),
    ...usage.events,
  ]);
  return {
    tasks: [...new Set(touched.map((draft) => draft.attempt.task))],
    ended: moved.filter((draft) => isTerminal(draft.change.state)).map((draft) => draft.task.id),
    nodes: [...new Set(touched.map((draft) => draft.attempt.node))],
    endedAttempts: touched.flatMap(endedAttempt),
  };
}

function endedAttempt({ attempt, attemptChange }: Draft): EndedAttempt[] {
  const { exitClass } = attemptChange;
  if (attempt.state === "ENDED" || attemptChange.state !== "ENDED" || !exitClass) return [];
  const { id, task, traceparent } = attempt;
  return [{ attempt: id, task, exitClass, traceparent }];
}

/** GPUs of members of attempts in which one failed by its GPU: by now they may be given back. */
async function readFaulty(
  tx: Tx,
  events: readonly AttemptEvent[],
  attempts: ReadonlyMap<AttemptId, readonly Draft[]>,
): Promise<ReadonlyMap<string, readonly GpuId[]>> {
  const stored = [...attempts.values()].flat().map(({ attempt }) => attempt);
  const faulty = [
    ...stored.filter(({ exitClass }) => exitClass === "gpu_fault").map(({ id }) => id),
    ...events
      .filter(({ what }) => what.kind === "ended" && what.end.exitClass === "gpu_fault")
      .map(({ attempt }) => attempt),
  ];
  return faulty.length === 0 ? new Map() : readGpusOfMembers(tx, [...new Set(faulty)]);
}

interface UsageChanges {
  readonly cuts: Parameters<typeof storeCuts>[1][number][];
  readonly events: NewEvent[];
  readonly idle: GpuId[];
  readonly unknown: GpuId[];
}

/**
 * The last cut of members whose processes have gone: their GPUs are given back, and with the last of an attempt its hold
 * is closed.
 */
function cutReleased(
  gone: readonly Draft[],
  of: {
    attempts: ReadonlyMap<AttemptId, readonly Draft[]>;
    allocations: ReadonlyMap<string, readonly StoredAllocation[]>;
    nowMs: number;
  },
): UsageChanges {
  const { attempts, allocations, nowMs } = of;
  const changes: UsageChanges = { cuts: [], events: [], idle: [], unknown: [] };
  for (const [id, drafts] of Map.groupBy(gone, ({ attempt }) => attempt.id)) {
    const isLast = (attempts.get(id) ?? []).every(({ released }) => released);
    for (const [at, draft] of drafts.entries()) {
      const own = allocations.get(memberOf(draft.attempt)) ?? [];
      if (own.length === 0) continue;
      const lost = draft.unknownFromMs !== undefined;
      const cut = cutAllocations(timesOf(draft), own, {
        endMs: lost ? nowMs : (draft.attemptChange.goneMs ?? nowMs),
        released: true,
        final: isLast && at === drafts.length - 1,
        nowMs,
      });
      changes.cuts.push(...cut.cuts);
      changes.events.push(cut.event);
      (lost ? changes.unknown : changes.idle).push(...own.map((allocation) => allocation.gpu));
    }
  }
  return changes;
}

const memberOf = ({ id, member }: StoredAttempt): string => memberName({ attempt: id, member });

function timesOf(draft: Draft): StoredAttempt & { readonly unknownFromMs?: number } {
  const { attempt, attemptChange, unknownFromMs } = draft;
  return {
    ...attempt,
    runningMs: attempt.runningMs ?? attemptChange.runningMs,
    stopMs: attempt.stopMs ?? attemptChange.stopMs,
    ...(unknownFromMs === undefined ? {} : { unknownFromMs }),
  };
}

/**
 * Cuts the GPUs of one member up to a time; never back before the last cut. `released`: they are given back with it;
 * `final`: nothing of the attempt follows.
 */
export function cutAllocations(
  attempt: StoredAttempt & { readonly unknownFromMs?: number },
  held: readonly StoredAllocation[],
  to: { endMs: number; released: boolean; final: boolean; nowMs: number },
): { cuts: UsageChanges["cuts"]; event: NewEvent } {
  const cuts: UsageChanges["cuts"] = [];
  const segments = held.flatMap((allocation) => {
    const endMs = Math.max(to.endMs, allocation.cutMs);
    const pieces = cutSegments(attempt, allocation.cutMs, endMs);
    const seq = allocation.seq + pieces.length;
    cuts.push({ allocation, cutMs: endMs, seq, released: to.released });
    return pieces.map((piece, at) =>
      create(UsageSegmentSchema, {
        member: allocation.member,
        gpu: allocation.gpu,
        seq: allocation.seq + at + 1,
        kind: piece.kind,
        sku: allocation.sku,
        priceVersion: allocation.priceVersion,
        startMs: BigInt(piece.startMs),
        endMs: BigInt(piece.endMs),
        billingStartMs: BigInt(piece.billingStartMs),
        billingEndMs: BigInt(piece.billingEndMs),
        simulated: allocation.simulated,
      }),
    );
  });
  return { cuts, event: usageCut(attempt, { segments, final: to.final, nowMs: to.nowMs }) };
}

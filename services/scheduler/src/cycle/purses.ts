import type { OrgId, TaskId } from "@fastgpu/domain/ids";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Priced } from "../submit/known-prices.ts";
import { accountTooShort } from "./money.ts";

/**
 * Who could not pay. A plan gives such tasks GPUs that they cannot have, and as long as it does these stand idle. So a task
 * that was refused a hold rests for a moment, and of its organisation every task rests whose first lease costs more than
 * the organisation has left, until it has more.
 */
export interface Purses {
  /** Billing refused holds of these tasks, for these reasons. Answers whether any of them did not rest yet. */
  refused(tasks: readonly PlanTask[], why: ReadonlyMap<TaskId, string>, nowMs: number): boolean;
  /** Those of the tasks that may be able to pay; the others rest, for these reasons. */
  split(tasks: readonly PlanTask[], nowMs: number): Promise<Split>;
  /** When a task that rests is tried again; Infinity: none rests. */
  nextMs(): number;
}

interface Split {
  /** In the order of the tasks; the same list where all of them may. */
  readonly solvent: readonly PlanTask[];
  readonly resting: ReadonlyMap<TaskId, string>;
}

/** What billing tells. */
export interface MoneyLeft {
  /** What an organisation has left, in nano-USD. Throws a Fault where billing does not answer. */
  available(org: OrgId): Promise<bigint>;
  /** What the first lease of a task costs at least, in nano-USD; undefined where that is not known. */
  leastCosts(): Promise<(task: Priced) => bigint | undefined>;
}

/** A task that was refused rests so long, in milliseconds: less may be asked for it on another GPU. */
const restMs = 5_000;
/** What organisations have left is read again after so long, in milliseconds. */
const freshMs = 2_000;
/** Organisations whose money is read at once. */
const atOnce = 16;

/** Nobody rests at first. */
export function createPurses(money: MoneyLeft, log: Logger): Purses {
  const refused = new Map<TaskId, { readonly message: string; readonly untilMs: number }>();
  /** What organisations with refused tasks have left, in nano-USD; undefined where it was not read yet. */
  const left = new Map<OrgId, bigint | undefined>();
  let readMs = Number.NEGATIVE_INFINITY;

  const read = async (nowMs: number): Promise<void> => {
    if (nowMs - readMs < freshMs) return;
    // Before it is asked: where billing is away, not every plan waits for it.
    readMs = nowMs;
    const orgs = [...left.keys()];
    for (let at = 0; at < orgs.length; at += atOnce) {
      const some = orgs.slice(at, at + atOnce);
      await Promise.all(some.map(async (org) => left.set(org, await money.available(org))));
    }
  };
  /** Tells tasks that cost more than their organisation has left. */
  const tooDear = async (nowMs: number): Promise<(task: PlanTask) => boolean> => {
    try {
      await read(nowMs);
      const leastOf = await money.leastCosts();
      return (task) => {
        const available = left.get(task.org);
        return available !== undefined && (leastOf(task) ?? 0n) > available;
      };
    } catch (err) {
      log.warn({ err }, "billing does not tell what is left: only tasks that were refused rest");
      return () => false;
    }
  };
  return {
    refused(tasks, why, nowMs) {
      const before = refused.size;
      for (const { id, org } of tasks) {
        const message = why.get(id);
        if (message === undefined || refused.has(id)) continue;
        refused.set(id, { message, untilMs: nowMs + restMs });
        if (left.has(org)) continue;
        left.set(org, undefined);
        readMs = Number.NEGATIVE_INFINITY;
      }
      return refused.size > before;
    },
    async split(tasks, nowMs) {
      for (const [id, { untilMs }] of refused) if (untilMs <= nowMs) refused.delete(id);
      const resting = new Map<TaskId, string>();
      if (left.size === 0) return { solvent: tasks, resting };
      const isTooDear = await tooDear(nowMs);
      const stillShort = new Set<OrgId>();
      for (const task of tasks) {
        if (!left.has(task.org) || task.notBeforeMs > nowMs) continue;
        const why = isTooDear(task) ? accountTooShort : refused.get(task.id)?.message;
        if (why === undefined) continue;
        resting.set(task.id, why);
        stillShort.add(task.org);
      }
      for (const org of left.keys()) if (!stillShort.has(org)) left.delete(org);
      const solvent = resting.size === 0 ? tasks : tasks.filter(({ id }) => !resting.has(id));
      return { solvent, resting };
    },
    nextMs() {
      let next = Number.POSITIVE_INFINITY;
      for (const { untilMs } of refused.values()) next = Math.min(next, untilMs);
      return next;
    },
  };
}

import { milliOfHeld } from "../gpu-part.ts";
import type { PlanQueue, PlanState, PlanTask } from "../plan.ts";
import { rowsByKey, rowsOf } from "../planning/queues.ts";
import type { Lengths } from "./future.ts";

/** What keeps places in line waiting. */
export interface Stop {
  /** Those behind the first of them, from `next` on. */
  readonly stopped: number[];
  next: number;
  /** The first waits for its time, or is looked at anew; -1: none. */
  first: number;
}

/** A limit as times from which each of its GPUs may be held by somebody else. */
export interface Account extends Stop {
  /** Ascending. */
  readonly freeMs: Float64Array;
}

/** When leases of the state end. */
interface Held {
  readonly state: PlanState;
  readonly nowMs: number;
  readonly lengths: Lengths;
}

/** The limits of queues. */
export class Accounts {
  private readonly rows: ReadonlyMap<string, PlanQueue>;
  private readonly byRow: ReadonlyMap<PlanQueue, Account>;
  private readonly byLeaf: (readonly Account[] | undefined)[] = [];

  constructor(held: Held, queues: readonly PlanQueue[]) {
    this.rows = rowsByKey(queues.filter(({ limitGpus }) => limitGpus !== undefined));
    this.byRow = accountsOf(this.rows, held);
  }

  /** Those of a task's queues. */
  for(task: PlanTask): readonly Account[] {
    return rowsOf(this.rows, task).flatMap((row) => this.byRow.get(row) ?? []);
  }

  /** The same, remembered for the leaf: that is one user's of a project. */
  of(leaf: number, task: PlanTask): readonly Account[] {
    return (this.byLeaf[leaf] ??= this.for(task));
  }
}

function accountsOf(
  rows: ReadonlyMap<string, PlanQueue>,
  { state, nowMs, lengths }: Held,
): ReadonlyMap<PlanQueue, Account> {
  const held = new Map([...rows.values()].map((row): [PlanQueue, number[]] => [row, []]));
  for (const { running } of rows.size === 0 ? [] : state.nodes) {
    for (const lease of running) {
      const endMs = Math.max(nowMs, lengths.endMs(lease));
      for (const row of rowsOf(rows, lease)) {
        for (let gpu = 0; gpu < milliOfHeld(lease) / 1000; gpu++) held.get(row)!.push(endMs);
      }
    }
  }
  return new Map(
    [...held].map(([row, ends]) => {
      const limit = row.limitGpus ?? 0;
      while (ends.length < limit) ends.push(nowMs);
      const freeMs = Float64Array.from(ends).sort();
      return [
        row,
        { freeMs: freeMs.slice(freeMs.length - limit), stopped: [], next: 0, first: -1 },
      ];
    }),
  );
}

/** The GPUs of a limit that are free first are held until then. */
export function hold({ freeMs }: Account, gpus: number, untilMs: number): void {
  let at = gpus;
  for (; at < freeMs.length && freeMs[at]! <= untilMs; at++) freeMs[at - gpus] = freeMs[at]!;
  freeMs.fill(untilMs, at - gpus, at);
}

import type { Clock } from "@fastgpu/domain/clock";
import { parseId, type AttemptId, type NodeId, type TaskId } from "@fastgpu/domain/ids";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { aborted } from "@fastgpu/lifecycle/signals";
import type { Term } from "@fastgpu/postgres/leader";
import { readEventHead } from "@fastgpu/postgres/outbox";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Logger } from "@fastgpu/telemetry/log";
import { contextFromTraceparent, formatTraceparent } from "@fastgpu/telemetry/trace-context";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import { followPolicy } from "../policy/follow.ts";
import type { Recorder } from "../recording/recorder.ts";
import { readAttempts } from "../store/attempts.ts";
import type { CycleContext, Holds } from "./context.ts";
import { runCycle } from "./cycle.ts";
import type { Dirty } from "./dirty.ts";
import { TermFigures } from "./figures.ts";
import { createLooked } from "./looked.ts";
import { createMirror, oneMoment } from "./mirror.ts";
import type { FundingTimes } from "./money.ts";
import { createPlanning } from "./planning.ts";
import { createPurses, type MoneyLeft } from "./purses.ts";

/** What a term of leadership needs. */
export interface LeadOptions {
  /** This replica's name. */
  readonly replica: string;
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracing: Tracing;
  readonly dirty: Dirty;
  readonly holds: Holds;
  readonly money: MoneyLeft;
  readonly times: FundingTimes;
  /** The policy file of this replica; undefined: none. */
  readonly policyFile: string | undefined;
  /** What records a term; undefined: nothing is recorded. */
  recorder(epoch: bigint): Promise<Recorder | undefined>;
  changed(what: { tasks: Iterable<TaskId>; nodes: Iterable<NodeId> }): void;
}

/** Sleeps at most this long: time-driven work is looked at once a second. */
const idleMs = 1_000;

/** Leads for one term: rebuilds the picture from the database, then runs the cycle until the term is over. */
export async function lead(options: LeadOptions, term: Term): Promise<void> {
  const { core, dirty, log } = options;
  const mirror = createMirror(options.clock);
  dirty.clear();
  const head = await readEventHead(core);
  const sinceMs = options.clock.nowMs();
  const startedAt = performance.now();
  const cancelled = await transaction(core, (tx) => mirror.rebuild(tx), oneMoment);
  const figures = new TermFigures(performance.now() - startedAt);
  await voidOrphanedHolds(options, term.epoch);
  log.info({ waiting: mirror.waiting.size, nodes: mirror.nodes.size }, "picture rebuilt");
  const policy = await followPolicy({
    ...{ core, log, clock: options.clock, leaderEpoch: term.epoch, file: options.policyFile },
    written: () => options.changed({ tasks: [], nodes: [] }),
  });
  await using recorder = await options.recorder(term.epoch);
  const context: CycleContext = {
    core,
    clock: options.clock,
    log,
    replica: options.replica,
    leaderEpoch: term.epoch,
    sinceMs,
    mirror,
    dirty,
    holds: options.holds,
    times: options.times,
    planner: createPlanning(policy.current.policy, recorder),
    purses: createPurses(options.money, log),
    policy,
    startLeaseSpan: (traceparent, attributes) =>
      leaseSpan(options.tracing, traceparent, attributes),
    changed: options.changed,
    cancelledArrays: new Set(cancelled),
    timers: {
      ...{ lastSweepMs: 0, nextBackoffMs: 0, nextMissedMs: 0, nextChargeMs: 0 },
      ...{ nextLearnMs: 0, nextRanksMs: 0, nextStatusMs: 0, savedMs: 0 },
    },
    figures,
    position: { seq: head.headSeq },
    told: new Map(),
    looked: createLooked(),
  };
  const step = () => runCycle(context);
  await using loop = startLoop({ name: "scheduling cycle", stop: term.over, log, idleMs, step });
  dirty.onMark = () => loop.wake();
  try {
    await aborted(term.over);
  } finally {
    dirty.onMark = undefined;
  }
}

/** Gives back what an older leader held for attempts that it never wrote. */
async function voidOrphanedHolds(options: LeadOptions, epoch: bigint): Promise<void> {
  for (let after = ""; ;) {
    const held = await options.holds.listOlder(epoch, after);
    const last = held.at(-1);
    if (last === undefined) return;
    after = last;
    const ids = held.flatMap((id) => parseId("att", id) ?? []);
    const known = new Set((await readAttempts(options.core, ids)).map((attempt) => attempt.id));
    const orphans: AttemptId[] = ids.filter((id) => !known.has(id));
    if (orphans.length > 0) await options.holds.void(epoch, orphans);
  }
}

function leaseSpan(
  tracing: Tracing,
  traceparent: string,
  attributes: Readonly<Record<string, string>>,
): string {
  const parent = contextFromTraceparent(traceparent);
  const span = tracing.tracer.startSpan("lease", { attributes }, parent);
  span.end();
  return formatTraceparent(span.spanContext());
}

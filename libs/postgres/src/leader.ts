import { Fault } from "@fastgpu/domain/fault";
import type { Clock } from "@fastgpu/domain/clock";
import { startLoop } from "@fastgpu/lifecycle/loop";
import type { Loop } from "@fastgpu/lifecycle/loop";
import { aborted, sleep } from "@fastgpu/lifecycle/signals";
import type { Logger } from "@fastgpu/telemetry/log";
import { statement } from "./pool.ts";
import { openSession } from "./session.ts";
import type { Session } from "./session.ts";
import type { Tx } from "./transaction.ts";

/** A term of leadership. */
export interface Term {
  /** Goes into every write of this term; see {@link assertLeader} and {@link leaderGuard}. */
  readonly epoch: bigint;
  /** Aborted when the term is over or can no longer be trusted. A hint only: the epoch is the fence. */
  readonly over: AbortSignal;
}

/** Options of {@link startLeadership}. */
export interface LeadershipOptions {
  /** What is led, for example `cycle`; one leader a name in the service's schema. */
  readonly name: string;
  readonly service: string;
  /** URL of the `_core` role. */
  readonly coreUrl: string;
  /** Who we are, for people. */
  readonly holder: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /** Leads until `term.over`, then returns. If it ends earlier, leadership is given up and sought again. */
  readonly lead: (term: Term) => Promise<void>;
  /** How often the connection is probed, and a waiting candidate tries again; 2 s. */
  readonly probeMs?: number;
}

const tryLock = statement<{ locked: boolean }>(
  "leader_lock",
  "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked",
);
const nextEpoch = statement<{ epoch: bigint }>(
  "leader_next_epoch",
  `INSERT INTO leader (name, epoch, holder, elected_ms) VALUES ($1, 1, $2, $3)
   ON CONFLICT (name) DO UPDATE SET epoch = leader.epoch + 1, holder = $2, elected_ms = $3
   RETURNING epoch`,
);
const stillLeader = statement<{ one: number }>(
  "leader_probe",
  "SELECT 1 AS one FROM leader WHERE name = $1 AND epoch = $2",
);

/**
 * Seeks leadership until `stop`. The advisory lock on a connection of its own keeps terms apart
 * in normal life; it is the epoch, raised with each term and checked in each write, that makes a
 * leader harmless which does not know yet that it is none.
 */
export function startLeadership(options: LeadershipOptions): Loop {
  const probeMs = options.probeMs ?? 2_000;
  return startLoop({
    name: `${options.service} ${options.name} leadership`,
    stop: options.stop,
    log: options.log,
    idleMs: probeMs,
    backoffMs: { first: 100, max: 2_000 },
    step: async (stop) => {
      await using session = await openSession({
        url: options.coreUrl,
        name: `${options.service} ${options.name} leader`,
        log: options.log,
      });
      const key = `${options.service}.leader.${options.name}`;
      for (;;) {
        const [row] = await session.query(tryLock, [key]);
        if (row?.locked === true) break;
        await sleep(probeMs, AbortSignal.any([stop, session.lost]));
        if (stop.aborted || session.lost.aborted) return "idle";
      }
      const values = [options.name, options.holder, options.clock.nowMs()];
      const [row] = await session.query(nextEpoch, values);
      if (row === undefined) throw new Error("no epoch");
      options.log.info({ leader: options.name, epoch: String(row.epoch) }, "leading");
      await leadOnce(options, { session, epoch: row.epoch, stop, probeMs });
      return stop.aborted ? "idle" : "again";
    },
  });
}

async function leadOnce(
  options: LeadershipOptions,
  at: { session: Session; epoch: bigint; stop: AbortSignal; probeMs: number },
): Promise<void> {
  const ended = new AbortController();
  const over = AbortSignal.any([at.stop, at.session.lost, ended.signal]);
  const probing = probe(options, { ...at, over }).finally(() => ended.abort());
  try {
    await options.lead({ epoch: at.epoch, over });
  } finally {
    ended.abort();
    await probing;
  }
}

/** Ends when the term can no longer be trusted: a silent connection counts as lost after a probe. */
async function probe(
  options: LeadershipOptions,
  at: { session: Session; epoch: bigint; over: AbortSignal; probeMs: number },
): Promise<void> {
  while (!at.over.aborted) {
    await sleep(at.probeMs, at.over);
    if (at.over.aborted) return;
    const late = new AbortController();
    const answer = at.session.query(stillLeader, [options.name, at.epoch]).then(
      (rows) => rows.length === 1,
      () => false,
    );
    const timeout = sleep(2 * at.probeMs, late.signal).then(() => false);
    const leading = await Promise.race([answer, timeout, aborted(at.over).then(() => false)]);
    late.abort();
    if (!leading) return;
  }
}

const guard = statement<{ one: number }>(
  "leader_guard",
  "SELECT 1 AS one FROM leader WHERE name = $1 AND epoch = $2 FOR SHARE",
);

/**
 * Fails the transaction with FENCED unless `epoch` is still the present term. The row stays locked
 * until the commit, so that no newer term can begin in between.
 */
export async function assertLeader(tx: Tx, name: string, epoch: bigint): Promise<void> {
  const rows = await tx.query(guard, [name, epoch]);
  if (rows.length === 1) return;
  throw new Fault("FENCED", `${name}: epoch ${epoch} is over`, {
    metadata: { epoch: String(epoch) },
  });
}

/**
 * The same for one-statement writes: `WITH leader_ok AS (${leaderGuard("cycle", 1)}) UPDATE … WHERE
 * EXISTS (SELECT FROM leader_ok)`; the epoch is parameter `$n`. FOR SHARE re-reads a row that a new
 * leader is changing, which a snapshot alone would not.
 */
export function leaderGuard(name: string, n: number): string {
  if (!/^[a-z_]+$/.test(name)) throw new RangeError(`not a plain name: ${name}`);
  return `SELECT 1 FROM leader WHERE name = '${name}' AND epoch = $${n} FOR SHARE`;
}

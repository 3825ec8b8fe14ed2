import { statement, type Querier } from "@fastgpu/postgres/pool";

/** Figures of a term; times in milliseconds. */
export interface Figures {
  readonly rebuildMs: number;
  readonly waiting: number;
  readonly liveAttempts: number;
  readonly readyNodes: number;
  readonly nodes: number;
  readonly plans: number;
  readonly planP50Ms: number;
  readonly planP99Ms: number;
  readonly leases: number;
  readonly leasesRejected: number;
  readonly leasesUnfunded: number;
  readonly preemptions: number;
  readonly preemptionsRejected: number;
  readonly runsExpected: number;
  readonly runsUnexpected: number;
  /** 0 where none was expected. */
  readonly runTimeMedianFactorOff: number;
  readonly runTimeP90Part: number;
}

/** What a leader of an earlier version did not write. */
const notKnown = {
  runsExpected: 0,
  runsUnexpected: 0,
  runTimeMedianFactorOff: 0,
  runTimeP90Part: 0,
} as const satisfies Partial<Figures>;

/** What a leader says of itself. */
export interface StoredStatus {
  readonly leader: string;
  readonly leaderEpoch: bigint;
  readonly sinceMs: number;
  readonly atMs: number;
  readonly figures: Figures;
}

const upsert = statement(
  "status_upsert",
  `insert into status (leader, leader_epoch, since_ms, at_ms, figures) values ($1, $2, $3, $4, $5)
   on conflict (only_one) do update set leader = excluded.leader, leader_epoch = excluded.leader_epoch,
     since_ms = excluded.since_ms, at_ms = excluded.at_ms, figures = excluded.figures
   where status.leader_epoch <= excluded.leader_epoch`,
);
const select = statement<{
  leader: string;
  leader_epoch: bigint;
  since_ms: bigint;
  at_ms: bigint;
  figures: Figures;
}>("status_select", "select leader, leader_epoch, since_ms, at_ms, figures from status");

/** Writes the leader's figures; those of a leader whose time is over change nothing. */
export async function storeStatus(db: Querier, status: StoredStatus): Promise<void> {
  const { leader, leaderEpoch, sinceMs, atMs, figures } = status;
  await db.query(upsert, [leader, leaderEpoch, sinceMs, atMs, JSON.stringify(figures)]);
}

/** The figures that were written last; undefined: none ever were. */
export async function readStatus(db: Querier): Promise<StoredStatus | undefined> {
  const [row] = await db.query(select, []);
  if (row === undefined) return undefined;
  const { leader, leader_epoch: leaderEpoch } = row;
  const figures = { ...notKnown, ...row.figures };
  return {
    ...{ leader, leaderEpoch, figures },
    ...{ sinceMs: Number(row.since_ms), atMs: Number(row.at_ms) },
  };
}

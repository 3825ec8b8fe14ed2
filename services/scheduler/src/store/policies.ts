import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A policy as the database has it. */
export interface StoredPolicy {
  /** Number of the change, from 1. */
  readonly revision: number;
  /** YAML, as it was given. */
  readonly source: string;
  readonly origin: "file" | "call";
  /** Who set it; the file's path where it came from one. */
  readonly updatedBy: string;
  readonly createdMs: number;
}

/** What was last seen of the leader's policy file. */
export interface StoredPolicyFile {
  /** Digest of the content that was last taken or refused; empty: none was. */
  readonly sha256: string;
  /** Why it was refused; empty: it was not. */
  readonly problem: string;
  readonly seenMs: number;
}

interface PolicyRow {
  revision: bigint;
  source: string;
  origin: "file" | "call";
  updated_by: string;
  created_ms: bigint;
}

const selectRevision = statement<{ revision: bigint | null }>(
  "policies_revision",
  "select max(revision) as revision from policies",
);
const selectNewest = statement<PolicyRow>(
  "policies_newest",
  "select * from policies order by revision desc limit 1",
);
const insertOne = statement(
  "policies_insert",
  `insert into policies (revision, source, origin, updated_by, created_ms) values ($1, $2, $3, $4, $5)`,
);
const selectFile = statement<{ sha256: string; problem: string; seen_ms: bigint }>(
  "policy_file",
  "select sha256, problem, seen_ms from policy_file",
);
const lockFile = statement<{ sha256: string; problem: string; seen_ms: bigint }>(
  "policy_file_lock",
  "select sha256, problem, seen_ms from policy_file for update",
);
const updateFile = statement(
  "policy_file_update",
  "update policy_file set sha256 = $1, problem = $2, seen_ms = $3",
);

/** The number of the newest policy; 0: the shipped one. */
export async function readPolicyRevision(db: Querier): Promise<number> {
  const [row] = await db.query(selectRevision, []);
  return Number(row?.revision ?? 0);
}

/** The newest policy; undefined: nobody has set one. */
export async function readStoredPolicy(db: Querier): Promise<StoredPolicy | undefined> {
  const [row] = await db.query(selectNewest, []);
  if (row === undefined) return undefined;
  const { source, origin } = row;
  const [revision, createdMs] = [Number(row.revision), Number(row.created_ms)];
  return { revision, source, origin, updatedBy: row.updated_by, createdMs };
}

/** What was last seen of the policy file. */
export async function readPolicyFile(db: Querier): Promise<StoredPolicyFile> {
  return toFile(await db.query(selectFile, []));
}

/** The same, and no other change of the policy until the transaction ends. */
export async function lockPolicy(tx: Tx): Promise<StoredPolicyFile> {
  return toFile(await tx.query(lockFile, []));
}

const toFile = (
  rows: readonly { sha256: string; problem: string; seen_ms: bigint }[],
): StoredPolicyFile => ({
  sha256: rows[0]?.sha256 ?? "",
  problem: rows[0]?.problem ?? "",
  seenMs: Number(rows[0]?.seen_ms ?? 0),
});

/** Adds a policy; the transaction holds {@link lockPolicy}. */
export async function insertPolicy(tx: Tx, policy: StoredPolicy): Promise<void> {
  const { revision, source, origin, updatedBy, createdMs } = policy;
  await tx.query(insertOne, [revision, source, origin, updatedBy, createdMs]);
}

/** Remembers what was seen of the file; the transaction holds {@link lockPolicy}. */
export async function storePolicyFile(tx: Tx, file: StoredPolicyFile): Promise<void> {
  await tx.query(updateFile, [file.sha256, file.problem, file.seenMs]);
}

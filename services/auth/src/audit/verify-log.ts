import { readFile } from "node:fs/promises";
import type { OrgId } from "@fastgpu/domain/ids";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Pool } from "@fastgpu/postgres/pool";
import { listAuditChains, listAuditCheckpoints, listAuditEvents } from "../store/audit-events.ts";
import { checkpointKeys, verifyChain } from "./chain.ts";
import type { AuditCheckpoint, ChainedEvent, ChainVerdict } from "./chain.ts";

const PAGE = 5_000;

/** The verdict on one organisation's chain. */
export interface LogVerdict {
  readonly org: OrgId;
  readonly verdict: ChainVerdict;
}

/** Options of {@link verifyAuditLog}. */
export interface VerifyOptions {
  /** A role that reads all of the schema: `auth_core`, or the auditor. */
  readonly pool: Pool;
  readonly master: MasterKey;
  /** The file that got a copy of each checkpoint; "": none. */
  readonly witnessFile: string;
}

/**
 * Checks every chain of the installation against its checkpoints and the witness file: for `doctor` and for whoever
 * audits. A chain that only the witness knows is broken too: all of it was removed.
 */
export async function verifyAuditLog(options: VerifyOptions): Promise<LogVerdict[]> {
  const { publicKey } = checkpointKeys(options.master);
  const witnesses = await readWitnesses(options.witnessFile);
  const orgs = new Set([...(await listAuditChains(options.pool)), ...witnesses.keys()]);
  const verdicts: LogVerdict[] = [];
  for (const org of [...orgs].toSorted()) {
    // Checkpoints first: one that is made meanwhile may name events that the list does not have yet.
    const checkpoints = await listAuditCheckpoints(options.pool, org);
    const events = await allEvents(options.pool, org);
    const seen = witnesses.get(org) ?? [];
    const verdict = verifyChain({ org, events, checkpoints, witnesses: seen, publicKey });
    verdicts.push({ org, verdict });
  }
  return verdicts;
}

async function allEvents(pool: Pool, org: OrgId): Promise<ChainedEvent[]> {
  const events: ChainedEvent[] = [];
  for (;;) {
    const afterSeq = events.at(-1)?.seq ?? 0;
    const page = await listAuditEvents(pool, { org, afterSeq, limit: PAGE });
    events.push(...page);
    if (page.length < PAGE) return events;
  }
}

async function readWitnesses(path: string): Promise<Map<OrgId, AuditCheckpoint[]>> {
  const witnesses = new Map<OrgId, AuditCheckpoint[]>();
  if (path === "") return witnesses;
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  });
  for (const line of text.split("\n")) {
    const witness = readWitness(line);
    if (witness === undefined) continue;
    const { org, ...checkpoint } = witness;
    witnesses.set(org, [...(witnesses.get(org) ?? []), checkpoint]);
  }
  return witnesses;
}

/** A line as it was written; undefined for one that a crash cut short. */
function readWitness(line: string): (AuditCheckpoint & { readonly org: OrgId }) | undefined {
  try {
    return JSON.parse(line) as AuditCheckpoint & { readonly org: OrgId };
  } catch {
    return undefined;
  }
}

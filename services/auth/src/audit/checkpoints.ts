import { appendFile, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { KeyObject } from "node:crypto";
import type { OrgId } from "@fastgpu/domain/ids";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { insertAuditCheckpoint, lockUnsignedHeads } from "../store/audit-events.ts";
import { signCheckpoint } from "./chain.ts";
import type { AuditCheckpoint } from "./chain.ts";

/** Chains signed in one transaction. */
const BATCH = 100;

/** Options of {@link signGrownChains}. */
export interface SignOptions {
  readonly core: Pool;
  readonly privateKey: KeyObject;
  readonly nowMs: number;
  /** Gets a line of JSON for each checkpoint before it is committed; "": none. */
  readonly witnessFile: string;
}

/**
 * Signs every chain that grew since its last checkpoint; answers how many. The witness is written first: a checkpoint
 * that only the file has is still true, since the events that it covers were committed before.
 */
export async function signGrownChains(options: SignOptions): Promise<number> {
  let signed = 0;
  for (;;) {
    const batch = await transaction(options.core, (tx) => signBatch(tx, options));
    signed += batch;
    if (batch < BATCH) return signed;
  }
}

async function signBatch(
  tx: Parameters<typeof lockUnsignedHeads>[0],
  options: SignOptions,
): Promise<number> {
  const heads = await lockUnsignedHeads(tx, BATCH);
  const made = heads.map(({ org, seq, hash, nextNumber }) => {
    const statement = { number: nextNumber, seq, hash, timeMs: options.nowMs };
    return { org, checkpoint: signCheckpoint(org, statement, options.privateKey) };
  });
  if (options.witnessFile !== "" && made.length > 0) await witness(options.witnessFile, made);
  for (const { org, checkpoint } of made) await insertAuditCheckpoint(tx, org, checkpoint);
  return heads.length;
}

async function witness(
  path: string,
  made: readonly { org: OrgId; checkpoint: AuditCheckpoint }[],
): Promise<void> {
  const lines = made.map(({ org, checkpoint }) => `${JSON.stringify({ org, ...checkpoint })}\n`);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // Begun on a line of its own, whatever a crash has left before it.
  await appendFile(path, `\n${lines.join("")}`, { mode: 0o600, flush: true });
}

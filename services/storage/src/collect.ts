import type { OrgId } from "@fastgpu/domain/ids";
import { parseId } from "@fastgpu/domain/ids";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { ChunkAddress } from "./chunks/chunk-file.ts";
import type { ChunkStore } from "./chunks/chunk-store.ts";
import { parseArtifactName } from "./names.ts";
import { forgetChunks, lockUnnamedChunks } from "./store/artifact-chunks.ts";
import { removeArtifacts } from "./store/artifacts.ts";
import { takeExpiredCheckpoints } from "./store/checkpoints.ts";
import { removeManifest } from "./store/manifests.ts";
import { removeIdleUploads } from "./store/uploads.ts";

/** Chunks examined under one hold of an organisation's lock. */
const BATCH = 200;

/** Options of {@link collect}. Times in milliseconds since the epoch. */
export interface CollectOptions {
  /** Goes round row-level security: it works over all tenants. */
  readonly core: Pool;
  readonly store: ChunkStore;
  /** Uploads without a write since then are given up. By the service's clock. */
  readonly uploadsBeforeMs: number;
  /** Checkpoints that were to be kept until then go. By the service's clock. */
  readonly nowMs: number;
  /** Chunks last written before then are looked at. By the machine's clock, as the files are; any value is safe. */
  readonly chunksBeforeMs: number;
  /** Drafts last written before then have no living writer. By the machine's clock. */
  readonly draftsBeforeMs: number;
  readonly stop: AbortSignal;
}

/** What one pass removed. */
export interface Collected {
  readonly uploads: number;
  readonly checkpoints: number;
  readonly drafts: number;
  readonly chunks: number;
}

/**
 * Removes what nothing names any more: uploads that were given up, checkpoints of tasks that are over, drafts of dead writers, chunks that no upload and no
 * artifact names. Safe beside uploads of the same content: they name a chunk before they look for it, and names and
 * removals exclude each other (see `nameChunks`). Killed at any point it leaves work for the next pass, no harm.
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { store, stop } = options;
  const uploads = await giveUpUploads(options);
  const checkpoints = await dropCheckpoints(options);
  const drafts = await store.sweepDrafts(options.draftsBeforeMs);
  let chunks = 0;
  for (const name of await store.organizations()) {
    const org = parseId("org", name);
    if (org === undefined) continue;
    let batch: ChunkAddress[] = [];
    for await (const { address, modifiedMs } of store.list(org)) {
      if (stop.aborted) break;
      if (modifiedMs < options.chunksBeforeMs) batch.push(address);
      if (batch.length < BATCH) continue;
      chunks += await removeUnnamed(options, org, batch);
      batch = [];
    }
    chunks += await removeUnnamed(options, org, batch);
  }
  return { uploads, checkpoints, drafts, chunks };
}

async function giveUpUploads(options: CollectOptions): Promise<number> {
  return transaction(options.core, async (tx) => {
    const ids = await removeIdleUploads(tx, { beforeMs: options.uploadsBeforeMs, limit: 1_000 });
    await forgetChunks(tx, ids);
    return ids.length;
  });
}

/** Each with its manifest and files, in a transaction of its own: what is killed here goes on with the next pass. */
async function dropCheckpoints({ core, nowMs, stop }: CollectOptions): Promise<number> {
  const dropOne = () =>
    transaction(core, async (tx) => {
      const [expired] = await takeExpiredCheckpoints(tx, { nowMs, limit: 1 });
      if (expired === undefined) return false;
      const { projectId, digest } = expired;
      const files = await removeManifest(tx, projectId, digest);
      const artifacts = files.map(({ artifact }) => parseArtifactName(artifact).artifact);
      await removeArtifacts(tx, projectId, artifacts);
      await forgetChunks(tx, artifacts);
      return true;
    });
  let dropped = 0;
  while (!stop.aborted && (await dropOne())) dropped += 1;
  return dropped;
}

async function removeUnnamed(
  { core, store }: CollectOptions,
  org: OrgId,
  addresses: readonly ChunkAddress[],
): Promise<number> {
  if (addresses.length === 0) return 0;
  return transaction(core, async (tx) => {
    const unnamed = await lockUnnamedChunks(tx, org, addresses);
    for (const address of unnamed) await store.remove(org, address);
    return unnamed.length;
  });
}

import { Fault } from "@fastgpu/domain/fault";
import type { ArtifactId, OrgId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import { CHUNK_BYTES } from "./chunks/chunk-file.ts";
import type { ChunkKeys } from "./chunks/chunk-file.ts";
import { parseArtifactName } from "./names.ts";
import type { ProjectTenant } from "./names.ts";
import type { StorageParts } from "./parts.ts";
import { listChunks } from "./store/artifact-chunks.ts";
import type { ChunkRef } from "./store/artifact-chunks.ts";
import { getArtifact } from "./store/artifacts.ts";

/** Chunks listed at once. */
const PAGE_CHUNKS = 256;

/** Whose content to read. */
export interface ContentSource {
  readonly parts: StorageParts;
  readonly tenant: ProjectTenant;
  readonly keys: ChunkKeys;
  readonly orgId: OrgId;
  readonly artifactId: ArtifactId;
}

/**
 * The content of a file from an offset, in pieces of at most 1 MiB, each checked before it is given out. The next chunk
 * is read while the consumer takes this one, and no further: a slow consumer holds two chunks in memory.
 */
export async function* readContent(source: ContentSource, offset: number): AsyncGenerator<Buffer> {
  const { parts, keys, orgId } = source;
  const read = (ref: ChunkRef): Promise<Buffer> => {
    const reading = parts.store.get(orgId, keys, ref.address);
    // Whoever stops early must not leave a rejection that nobody sees.
    reading.catch(() => undefined);
    return reading;
  };
  let skip = offset % CHUNK_BYTES;
  let ahead: Promise<Buffer> | undefined;
  for await (const ref of refsFrom(source, Math.floor(offset / CHUNK_BYTES))) {
    const next = read(ref);
    if (ahead !== undefined) {
      yield (await ahead).subarray(skip);
      skip = 0;
    }
    ahead = next;
  }
  if (ahead !== undefined) yield (await ahead).subarray(skip);
}

async function* refsFrom(source: ContentSource, first: number): AsyncGenerator<ChunkRef> {
  const { parts, tenant, artifactId } = source;
  for (let index = first; ; index += PAGE_CHUNKS) {
    const page = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenant);
      return listChunks(tx, { artifactId, index, limit: PAGE_CHUNKS });
    });
    yield* page;
    if (page.length < PAGE_CHUNKS) return;
  }
}

/** Streams a stored file from an offset, as DownloadArtifact and FetchArtifact answer it. */
export async function* download(
  parts: StorageParts,
  request: { readonly tenant: ProjectTenant; readonly name: string; readonly offset: bigint },
): AsyncGenerator<{ data: Buffer }> {
  const { tenant, name } = request;
  const { project, artifact: artifactId } = parseArtifactName(name);
  const artifact = await transaction(parts.db.api, async (tx) => {
    await withTenant(tx, tenant);
    return getArtifact(tx, project, artifactId);
  });
  if (artifact === undefined) throw Fault.notFound(name);
  const offset = Number(request.offset);
  if (offset > artifact.sizeBytes) {
    throw Fault.invalid("offset", `must be at most ${artifact.sizeBytes}, the file's size`);
  }
  if (offset === artifact.sizeBytes) return;
  using _slot = parts.downloadSlots.take(tenant.org);
  const keys = await parts.dataKeys(tenant.org);
  const source = { parts, tenant, keys, orgId: tenant.org, artifactId };
  for await (const data of readContent(source, offset)) yield { data };
}

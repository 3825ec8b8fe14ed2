import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import type { OrgId } from "@fastgpu/domain/ids";
import { chunkAddress, decodeChunk, encodeChunk } from "./chunk-file.ts";
import type { ChunkAddress, ChunkKeys } from "./chunk-file.ts";

/** Chunks on disk: `ROOT/<org>/<2 digits>/<address>`, and drafts in `ROOT/tmp`. */
export interface ChunkStore {
  /** Makes content durable and answers its address. Content that is there already, undamaged, costs no write. */
  put(org: OrgId, keys: ChunkKeys, content: Uint8Array): Promise<ChunkAddress>;
  /** Content, checked. CHECKSUM_MISMATCH names a chunk that is damaged or missing. */
  get(org: OrgId, keys: ChunkKeys, address: ChunkAddress): Promise<Buffer>;
  /** Removes a chunk. Only the collector does, under its lock. */
  remove(org: OrgId, address: ChunkAddress): Promise<void>;
  /** Every chunk of an organisation with the time of its last write, one directory at a time. */
  list(org: OrgId): AsyncGenerator<{ address: ChunkAddress; modifiedMs: number }>;
  /** Organisations that have chunks. */
  organizations(): Promise<string[]>;
  /** Removes drafts that were last written before `beforeMs`: their writer is dead. Answers how many. */
  sweepDrafts(beforeMs: number): Promise<number>;
}

/** Opens the store in `root`, made if missing (mode 0700). */
export async function openChunkStore(root: string): Promise<ChunkStore> {
  const drafts = join(root, "tmp");
  await mkdir(drafts, { recursive: true, mode: 0o700 });
  const known = new Set<string>();

  const directoryOf = (org: OrgId, address: ChunkAddress): string =>
    join(root, org, address.slice(0, 2));

  const ensureDirectory = async (org: OrgId, directory: string): Promise<void> => {
    if (known.has(directory)) return;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await syncDirectory(join(root, org));
    await syncDirectory(root);
    known.add(directory);
  };

  const read = async (
    org: OrgId,
    keys: ChunkKeys,
    address: ChunkAddress,
  ): Promise<Buffer | undefined> => {
    const file = await readFile(join(directoryOf(org, address), address)).catch(missing);
    return file === undefined ? undefined : decodeChunk(keys, address, file);
  };

  return {
    async put(org, keys, content) {
      const address = chunkAddress(keys, content);
      // Reading back what is there costs less than a durable write, and heals a damaged chunk.
      const directory = directoryOf(org, address);
      if ((await read(org, keys, address)) !== undefined) {
        // Its writer may have been killed between rename and sync.
        await syncDirectory(directory);
        return address;
      }
      await ensureDirectory(org, directory);
      const draft = join(drafts, randomBytes(12).toString("hex"));
      await writeDurably(draft, await encodeChunk(keys, address, content));
      await rename(draft, join(directory, address));
      await syncDirectory(directory);
      return address;
    },
    async get(org, keys, address) {
      const content = await read(org, keys, address);
      if (content !== undefined) return content;
      throw new Fault("CHECKSUM_MISMATCH", `chunk ${address} is damaged or missing`, {
        hint: "restore it from a backup, or upload the same content again: that repairs the chunk",
        metadata: { chunk: address },
      });
    },
    async remove(org, address) {
      await rm(join(directoryOf(org, address), address), { force: true });
    },
    list: (org) => listChunks(join(root, org)),
    async organizations() {
      const names = await readdir(root);
      return names.filter((name) => name.startsWith("org-"));
    },
    async sweepDrafts(beforeMs) {
      let swept = 0;
      for (const name of await readdir(drafts)) {
        const path = join(drafts, name);
        const found = await stat(path).catch(missing);
        if (found === undefined || found.mtimeMs >= beforeMs) continue;
        await rm(path, { force: true });
        swept += 1;
      }
      return swept;
    },
  };
}

async function* listChunks(
  home: string,
): AsyncGenerator<{ address: ChunkAddress; modifiedMs: number }> {
  for (const part of (await readdir(home).catch(missing)) ?? []) {
    for (const name of (await readdir(join(home, part)).catch(missing)) ?? []) {
      const found = await stat(join(home, part, name)).catch(missing);
      if (found === undefined || !/^[0-9a-f]{64}$/.test(name)) continue;
      yield { address: name as ChunkAddress, modifiedMs: found.mtimeMs };
    }
  }
}

async function writeDurably(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.datasync();
  } catch (error) {
    await rm(path, { force: true });
    throw noSpace(error);
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function missing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
  throw error;
}

function noSpace(error: unknown): unknown {
  if (!(error instanceof Error && "code" in error)) return error;
  if (error.code !== "ENOSPC" && error.code !== "EDQUOT") return error;
  return new Fault("UNAVAILABLE", "the storage disk is full", {
    hint: "the operator has to free space; the upload resumes where it stopped",
    retryAfterMs: 60_000,
    cause: error,
  });
}

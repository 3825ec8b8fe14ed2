import { createHash, randomUUID } from "node:crypto";
import type { Hash } from "node:crypto";
import type {
  UploadArtifactRequest,
  UploadHeader,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { plainText } from "@fastgpu/domain/text";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import { CHUNK_BYTES, chunkAddress } from "./chunks/chunk-file.ts";
import type { ChunkKeys } from "./chunks/chunk-file.ts";
import { split } from "./chunks/splitter.ts";
import { readContent } from "./download.ts";
import type { ProjectTenant } from "./names.ts";
import { newArtifactId } from "./parts.ts";
import type { StorageParts } from "./parts.ts";
import { forgetChunks, nameChunks } from "./store/artifact-chunks.ts";
import { getArtifactOfUpload, insertArtifact } from "./store/artifacts.ts";
import type { Artifact } from "./store/artifacts.ts";
import {
  advanceUpload,
  finishUpload,
  getUpload,
  insertUpload,
  takeOverUpload,
} from "./store/uploads.ts";
import type { Upload } from "./store/uploads.ts";

/** Chunks made durable together: one transaction and as many writes side by side. */
const BATCH_CHUNKS = 4;
/** A slow stream's chunks are made durable after this time, however few they are. */
const BATCH_MS = 500;

/** One upload stream. */
export interface UploadStream {
  readonly tenant: ProjectTenant;
  readonly header: UploadHeader;
  /** Everything behind the header. */
  readonly pieces: AsyncIterable<UploadArtifactRequest>;
  /** Runs in the transaction that completes the upload: what else has to become true with it. */
  readonly onComplete: (tx: Tx, artifact: Artifact) => Promise<void>;
}

/** What a stream has to do: nothing more, or write from an offset on. */
type Begun =
  | { readonly kind: "complete"; readonly artifact: Artifact }
  | { readonly kind: "writing"; readonly upload: Upload; readonly writer: string };

/** Splits a stream into its header and the rest. */
export async function readHeader(
  requests: AsyncIterable<UploadArtifactRequest>,
): Promise<{ header: UploadHeader; pieces: AsyncIterable<UploadArtifactRequest> }> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true || first.value.part.case !== "header") {
    throw Fault.invalid("header", "must be the first message of the stream");
  }
  const pieces = { [Symbol.asyncIterator]: () => iterator };
  return { header: first.value.part.value, pieces };
}

/**
 * Takes an upload to its end. What is durable survives any crash and any break of the stream; the same upload_id goes
 * on at the offset that GetUpload names. A whole file whose SHA-256 is not the expected one stores nothing.
 */
export async function receiveUpload(parts: StorageParts, stream: UploadStream): Promise<Artifact> {
  plainText("header.display_name", stream.header.displayName);
  using _slot = parts.uploadSlots.take(stream.tenant.org);
  const begun = await begin(parts, stream);
  if (begun.kind === "complete") return begun.artifact;
  const offset = Number(stream.header.offset);
  const run = new UploadRun(parts, stream.tenant, begun);
  const keys = await parts.dataKeys(stream.tenant.org);
  await run.resume(keys, offset);
  for await (const chunk of split(dataOf(stream.pieces, parts.uploadSilenceMs)))
    await run.add(keys, chunk);
  await run.flush(keys);
  return run.complete(stream);
}

async function* dataOf(
  pieces: AsyncIterable<UploadArtifactRequest>,
  silenceMs: number,
): AsyncGenerator<Uint8Array> {
  const iterator = pieces[Symbol.asyncIterator]();
  for (;;) {
    const next = await withinSilence(iterator.next(), silenceMs);
    if (next.done === true) return;
    const { part } = next.value;
    if (part.case !== "data") throw Fault.invalid("data", "only the first message is a header");
    yield part.value;
  }
}

/** A stream that sends nothing holds a slot and memory: it is broken off, and resumes when its client is able to. */
async function withinSilence<T>(next: Promise<T>, silenceMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    const fault = new Fault("DEADLINE_EXCEEDED", `the stream was silent for ${silenceMs} ms`, {
      hint: "ask GetUpload where to resume, and go on with the same upload_id",
    });
    timer = setTimeout(reject, silenceMs, fault);
  });
  // Whichever loses must not end the process.
  next.catch(() => undefined);
  try {
    return await Promise.race([next, silence]);
  } finally {
    clearTimeout(timer);
  }
}

function begin(parts: StorageParts, stream: UploadStream): Promise<Begun> {
  const { tenant, header } = stream;
  return transaction(parts.db.api, async (tx): Promise<Begun> => {
    await withTenant(tx, tenant);
    const known = await getUpload(tx, tenant.project, header.uploadId);
    const writing =
      known === undefined
        ? undefined
        : await goOn(tx, known, { header, nowMs: parts.clock.nowMs() });
    if (writing !== undefined) return writing;
    // Looked for after the upload: what was one a moment ago may have become an artifact.
    const artifact = await getArtifactOfUpload(tx, tenant.project, header.uploadId);
    if (artifact === undefined) return beginFirst(tx, parts, stream, known?.committedBytes ?? 0);
    requireSame(header, artifact);
    return { kind: "complete", artifact };
  });
}

/** Takes a known upload over at the header's offset; undefined where that cannot be. */
async function goOn(
  tx: Tx,
  known: Upload,
  at: { readonly header: UploadHeader; readonly nowMs: number },
): Promise<Begun | undefined> {
  requireSame(at.header, known);
  const offset = Number(at.header.offset);
  const writer = randomUUID();
  if (offset % CHUNK_BYTES !== 0) throw badOffset(known.committedBytes);
  const by = { upload: known, writer };
  if (!(await takeOverUpload(tx, by, { offset, nowMs: at.nowMs }))) return undefined;
  await forgetChunks(tx, [known.artifactId], offset / CHUNK_BYTES);
  return { kind: "writing", upload: known, writer };
}

async function beginFirst(
  tx: Tx,
  parts: StorageParts,
  { tenant, header }: UploadStream,
  committedBytes: number,
): Promise<Begun> {
  if (Number(header.offset) !== 0) throw badOffset(committedBytes);
  const nowMs = parts.clock.nowMs();
  const writer = randomUUID();
  const upload = {
    uploadId: header.uploadId,
    orgId: tenant.org,
    projectId: tenant.project,
    artifactId: newArtifactId(nowMs),
    displayName: header.displayName,
    expectedSha256: header.sha256,
    attempt: header.attempt,
  };
  if (!(await insertUpload(tx, upload, { writer, nowMs }))) throw takenOver();
  return { kind: "writing", upload: { ...upload, committedBytes: 0 }, writer };
}

/** A stream at work: chunks wait until a batch is full, then become durable together. */
class UploadRun {
  readonly #parts: StorageParts;
  readonly #tenant: ProjectTenant;
  readonly #by: { readonly upload: Upload; readonly writer: string };
  #hash: Hash = createHash("sha256");
  #durableBytes = 0;
  #waiting: Buffer[] = [];
  #flushedMs = performance.now();

  constructor(
    parts: StorageParts,
    tenant: ProjectTenant,
    by: { readonly upload: Upload; readonly writer: string },
  ) {
    this.#parts = parts;
    this.#tenant = tenant;
    this.#by = by;
  }

  /** Hashes what earlier streams left, since the digest is over the whole file; that checks it too. */
  async resume(keys: ChunkKeys, offset: number): Promise<void> {
    const { artifactId, orgId } = this.#by.upload;
    if (offset > 0) {
      const source = { parts: this.#parts, tenant: this.#tenant, keys, orgId, artifactId };
      for await (const content of readContent(source, 0)) this.#hash.update(content);
    }
    this.#durableBytes = offset;
  }

  async add(keys: ChunkKeys, chunk: Buffer): Promise<void> {
    this.#hash.update(chunk);
    this.#waiting.push(chunk);
    const waited = performance.now() - this.#flushedMs >= BATCH_MS;
    if (this.#waiting.length >= BATCH_CHUNKS || waited) await this.flush(keys);
  }

  async flush(keys: ChunkKeys): Promise<void> {
    const chunks = this.#waiting;
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (bytes === 0) return;
    this.#waiting = [];
    const { maxArtifactBytes, store } = this.#parts;
    if (this.#durableBytes + bytes > maxArtifactBytes) {
      throw new Fault("LIMIT_EXCEEDED", `a file has at most ${maxArtifactBytes} bytes`, {
        metadata: { limit_bytes: String(maxArtifactBytes) },
      });
    }
    const first = this.#durableBytes / CHUNK_BYTES;
    const refs = chunks.map((chunk, i) => ({
      index: first + i,
      address: chunkAddress(keys, chunk),
      sizeBytes: chunk.length,
    }));
    const { upload } = this.#by;
    await this.#write(async (tx) => {
      // First, since it fences: a stream that was taken over must not name chunks any more.
      await this.#advance(tx);
      await nameChunks(tx, upload, refs);
    });
    await Promise.all(chunks.map((chunk) => store.put(upload.orgId, keys, chunk)));
    this.#durableBytes += bytes;
    await this.#write((tx) => this.#advance(tx));
    this.#flushedMs = performance.now();
  }

  async complete(stream: UploadStream): Promise<Artifact> {
    const { upload } = this.#by;
    const { committedBytes: _, ...kept } = upload;
    const artifact: Artifact = {
      ...kept,
      sizeBytes: this.#durableBytes,
      sha256: this.#hash.digest("hex"),
      createdMs: this.#parts.clock.nowMs(),
    };
    const { expectedSha256, sha256 } = artifact;
    const matches = expectedSha256 === "" || expectedSha256 === sha256;
    await this.#write(async (tx) => {
      if (!(await finishUpload(tx, this.#by))) throw takenOver();
      if (!matches) return forgetChunks(tx, [upload.artifactId]);
      await insertArtifact(tx, artifact);
      await stream.onComplete(tx, artifact);
    });
    if (matches) return artifact;
    throw new Fault("CHECKSUM_MISMATCH", "the content's SHA-256 is not the one in the header", {
      hint: "nothing was stored: upload the file again",
      metadata: { expected: expectedSha256, received: sha256 },
    });
  }

  /** Only whole chunks count as progress: a shorter last one is written again when the upload goes on. */
  async #advance(tx: Tx): Promise<void> {
    const committedBytes = Math.floor(this.#durableBytes / CHUNK_BYTES) * CHUNK_BYTES;
    const nowMs = this.#parts.clock.nowMs();
    if (!(await advanceUpload(tx, this.#by, { committedBytes, nowMs }))) throw takenOver();
  }

  #write(work: (tx: Tx) => Promise<void>): Promise<void> {
    return transaction(this.#parts.db.api, async (tx) => {
      await withTenant(tx, this.#tenant);
      await work(tx);
    });
  }
}

/** The header must tell the same file as the first one with this upload_id did. */
function requireSame(
  header: UploadHeader,
  known: Pick<Upload, "displayName" | "expectedSha256" | "attempt">,
): void {
  const differing =
    header.displayName !== known.displayName
      ? "display_name"
      : header.attempt !== known.attempt
        ? "attempt"
        : header.sha256 !== known.expectedSha256
          ? "sha256"
          : undefined;
  if (differing === undefined) return;
  const field = `header.${differing}`;
  throw new Fault("REQUEST_ID_REUSED", `the upload_id was used with another ${differing}`, {
    violations: [{ field, description: "differs from the first header with this upload_id" }],
    hint: "use a new upload_id for another file",
    metadata: { field },
  });
}

function badOffset(committedBytes: number): Fault {
  return Fault.invalid(
    "header.offset",
    `must be 0 or a multiple of ${CHUNK_BYTES}, and at most ${committedBytes}`,
    "ask GetUpload where to resume",
  );
}

function takenOver(): Fault {
  return new Fault("FENCED", "another stream has taken over this upload", {
    hint: "ask GetUpload whether it is complete",
  });
}

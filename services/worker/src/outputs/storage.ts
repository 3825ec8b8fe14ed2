import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  AttemptStorageService,
  type ManifestFileSchema,
  type UploadArtifactRequestSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { Channel } from "@fastgpu/rpc/channel";
import { type CallOptions, type Client, createClient } from "@fastgpu/rpc/client";
import { storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import type { Context } from "@fastgpu/telemetry/trace-context";
import { matches } from "./glob.ts";

/** Whose files are stored. */
export interface Owner {
  readonly project: string;
  readonly attempt: string;
  readonly trace: Context;
  readonly signal: AbortSignal;
  /** The attempt's newest storage grant; empty where the scheduler has sent none. */
  grant(): string;
}

/** Whose checkpoint a folder is. */
export interface CheckpointOf {
  readonly task: string;
  readonly member: number;
  readonly epoch: bigint;
  /** Digest of the checkpoint in storage that the attempt resumed from; empty where there was none. */
  readonly resumedDigest: string;
}

/** The worker's view of storage. */
export interface AttemptStorage {
  /** Stores one file; returns its artifact's resource name. */
  storeFile(owner: Owner, path: string, displayName: string): Promise<string>;
  /** Stores what matches below `folder`; returns the manifest's digest, empty where nothing matched. */
  storeOutputs(owner: Owner, folder: string, patterns: readonly string[]): Promise<string>;
  /** Stores all files below `folder` as a checkpoint; returns its manifest's digest, empty where there are none. */
  storeCheckpoint(owner: Owner, folder: string, of: CheckpointOf): Promise<string>;
  /** Fetches the files of a checkpoint into `folder`. */
  fetchCheckpoint(owner: Owner, digest: string, folder: string): Promise<void>;
  /** Fetches an artifact to a path below `folder`. */
  fetchInput(
    owner: Owner,
    input: { artifact: string; path: string },
    folder: string,
  ): Promise<void>;
}

type StorageClient = Client<typeof AttemptStorageService>;
type UploadPart = MessageInitShape<typeof UploadArtifactRequestSchema>;

const chunkBytes = 512 * 1024;
const maxFiles = 10_000;
const tries = 6;
/** How long a call waits for a new grant in the place of one that has ended. */
const grantPatienceMs = 60_000;

/** Storage over gRPC. A broken upload is begun again: its id is made of attempt and path, so it stays one artifact. */
export function createAttemptStorage(channel: Channel): AttemptStorage {
  const client = createClient(AttemptStorageService, channel);
  return {
    storeFile: async (owner, path, displayName) =>
      (await store(client, owner, path, displayName)).artifact,
    async storeOutputs(owner, folder, patterns) {
      const paths = (await listFiles(folder)).filter(
        (path) => patterns.length === 0 || patterns.some((pattern) => matches(pattern, path)),
      );
      return storeFiles(client, owner, { folder, paths, as: "" });
    },
    async storeCheckpoint(owner, folder, checkpoint) {
      const paths = await listFiles(folder);
      return storeFiles(client, owner, { folder, paths, as: "checkpoint/", checkpoint });
    },
    async fetchCheckpoint(owner, digest, folder) {
      const request = { parent: `projects/${owner.project}`, digest };
      const { files } = await persist(owner, () =>
        client.fetchManifest(request, callOptions(owner)),
      );
      for (const { artifact, path } of files) {
        await fetchInput(client, owner, { artifact, path }, folder);
      }
    },
    fetchInput: (owner, input, folder) => fetchInput(client, owner, input, folder),
  };
}

/** Stores files below a folder and their manifest; answers its digest, empty where there are none. */
async function storeFiles(
  client: StorageClient,
  owner: Owner,
  of: {
    readonly folder: string;
    readonly paths: readonly string[];
    /** What the artifacts' names begin with: an attempt may leave files of one path as output and as checkpoint. */
    readonly as: string;
    readonly checkpoint?: CheckpointOf;
  },
): Promise<string> {
  const { folder, paths, as } = of;
  if (paths.length === 0) return "";
  if (paths.length > maxFiles) throw new Fault("LIMIT_EXCEEDED", `more than ${maxFiles} files`);
  const files: MessageInitShape<typeof ManifestFileSchema>[] = [];
  for (const path of paths) {
    files.push({ ...(await store(client, owner, join(folder, path), `${as}${path}`)), path });
  }
  const request = {
    ...{ parent: `projects/${owner.project}`, attempt: owner.attempt, files },
    ...(of.checkpoint === undefined ? {} : { checkpoint: of.checkpoint }),
  };
  const manifest = await persist(owner, () => client.putManifest(request, callOptions(owner)));
  return manifest.digest;
}

async function store(
  client: StorageClient,
  owner: Owner,
  path: string,
  displayName: string,
): Promise<{ sizeBytes: bigint; sha256: string; artifact: string }> {
  // Never through a link: a task could name a file of the host.
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { sha256, sizeBytes } = await digest(file);
  const header = {
    parent: `projects/${owner.project}`,
    displayName,
    uploadId: uploadIdOf(`${owner.attempt}/${displayName}`),
    offset: 0n,
    sha256,
    attempt: owner.attempt,
  };
  const artifact = await persist(owner, () =>
    client.storeArtifact(parts(file, header), callOptions(owner)),
  );
  return { sizeBytes, sha256, artifact: artifact.name };
}

async function* parts(
  file: FileHandle,
  header: Extract<NonNullable<UploadPart["part"]>, { case: "header" }>["value"],
): AsyncGenerator<UploadPart> {
  yield { part: { case: "header", value: header } };
  for await (const data of read(file)) yield { part: { case: "data", value: data } };
}

async function* read(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (let position = 0; ;) {
    const buffer = Buffer.allocUnsafe(chunkBytes);
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function digest(file: FileHandle): Promise<{ sha256: string; sizeBytes: bigint }> {
  const hash = createHash("sha256");
  let sizeBytes = 0n;
  for await (const data of read(file)) {
    hash.update(data);
    sizeBytes += BigInt(data.length);
  }
  return { sha256: hash.digest("hex"), sizeBytes };
}

/**
 * Repeats what failed for a reason that may pass, with growing pauses; about 8 s in all. Where the grant has ended it waits
 * longer: after a restart of worker and scheduler the session may come long after the first file, and brings a new one.
 */
async function persist<T>(owner: Owner, work: () => Promise<T>): Promise<T> {
  const begunMs = performance.now();
  for (let left = tries, pauseMs = 250; ; pauseMs *= 2) {
    try {
      return await work();
    } catch (error) {
      const fault = Fault.from(error);
      const ended = fault.metadata["grant"] === "expired";
      const waits = ended
        ? performance.now() - begunMs < grantPatienceMs
        : --left > 0 && mayPass(fault);
      if (owner.signal.aborted || !waits) throw fault;
      if (ended) pauseMs = 250;
      await sleep(pauseMs, owner.signal);
    }
  }
}

function callOptions(owner: Owner): CallOptions {
  const grant = owner.grant();
  const { signal, trace } = owner;
  return { signal, trace, ...(grant === "" ? {} : { headers: { [storageGrantHeader]: grant } }) };
}

const passing: ReadonlySet<string> = new Set([
  ...["UNAVAILABLE", "DRAINING", "DEADLINE_EXCEEDED", "RATE_LIMITED"],
]);

/** A lease that was taken up before there were grants gets one with the session. */
const mayPass = ({ reason, metadata }: Fault): boolean =>
  passing.has(reason) || metadata["grant"] === "missing";

/** Plain files below a folder, as sorted relative paths. Links are not followed, whatever they are to. */
async function listFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (dir: string): Promise<void> => {
    const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) await walk(path);
      else if (entry.isFile()) found.push(relative(folder, path).split(sep).join("/"));
    }
  };
  await walk(folder);
  return found.toSorted();
}

async function fetchInput(
  client: StorageClient,
  owner: Owner,
  input: { artifact: string; path: string },
  folder: string,
): Promise<void> {
  const target = resolve(folder, input.path);
  if (!target.startsWith(resolve(folder) + sep)) {
    throw Fault.invalid("inputs.path", "leaves the input directory");
  }
  await mkdir(dirname(target), { recursive: true });
  await persist(owner, async () => {
    await using file = await open(target, "w", 0o644);
    const request = { name: input.artifact, offset: 0n };
    const pieces = client.fetchArtifact(request, callOptions(owner));
    for await (const { data } of pieces) await file.write(data);
  });
}

/** A UUID (version 8: made of a hash) that names an upload of an attempt, the same at each try. */
function uploadIdOf(name: string): string {
  const hex = createHash("sha256").update(name).digest("hex");
  const variant = "89ab".charAt(Number.parseInt(hex.charAt(16), 16) % 4);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join("-");
}

import { createHash, randomUUID } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { toJson } from "@bufbuild/protobuf";
import {
  type Artifact,
  ArtifactSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { type Api, withApi } from "../api/connect.ts";
import { resolveName } from "../api/names.ts";
import { collectPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { progressLine } from "../output/progress-line.ts";
import { age, binarySize, isoTime, lastPart } from "../output/values.ts";
import { download, downloadToFile } from "./download.ts";

/** Bytes in one message of an upload; the API takes up to 1 MiB. */
const PIECE_BYTES = 256 * 1024;
const RESUME_ATTEMPTS = 10;
const RESUME_PAUSE_MS = 1000;

function artifactView(nowMs: number): View<Artifact> {
  return {
    columns: [
      { header: "artifact", value: (artifact) => lastPart(artifact.name) },
      { header: "name", value: (artifact) => artifact.displayName },
      { header: "size", value: (artifact) => binarySize(artifact.sizeBytes), align: "right" },
      { header: "age", value: (artifact) => age(artifact.createTime, nowMs), align: "right" },
      { header: "from", value: (artifact) => artifact.attempt },
      { header: "sha256", value: (artifact) => artifact.sha256, wide: true },
      { header: "created", value: (artifact) => isoTime(artifact.createTime), wide: true },
    ],
    id: (artifact) => lastPart(artifact.name),
    json: (artifact) => toJson(ArtifactSchema, artifact),
  };
}

/** `data put FILE` */
export async function putData(
  context: CliContext,
  options: CommonOptions & { name?: string },
  file: string,
): Promise<void> {
  const displayName = options.name ?? (file === "-" ? "" : basename(file));
  if (displayName === "")
    throw new CliError("standard input has no name", { hint: "fastgpu data put - --name NAME" });
  await withApi(context, options, async (api) => {
    const parent = await api.project();
    const artifact =
      file === "-"
        ? await api.artifacts.uploadArtifact(
            pieces({ parent, displayName, uploadId: randomUUID(), sha256: "" }, 0, process.stdin),
          )
        : await putFile(context, api, { parent, displayName, file });
    await printOne(printOptions(context, options), artifactView(context.nowMs()), artifact);
  });
}

interface Header {
  parent: string;
  displayName: string;
  uploadId: string;
  sha256: string;
}

async function* pieces(
  header: Header,
  offset: number,
  source: AsyncIterable<Uint8Array>,
  onBytes?: (done: number) => void,
) {
  yield { part: { case: "header" as const, value: { ...header, offset: BigInt(offset) } } };
  let done = offset;
  for await (const chunk of source) {
    for (let from = 0; from < chunk.length; from += PIECE_BYTES) {
      const data = chunk.subarray(from, from + PIECE_BYTES);
      yield { part: { case: "data" as const, value: data } };
      done += data.length;
      onBytes?.(done);
    }
  }
}

/** Uploads a file; after a lost connection it goes on at the byte that the platform holds. */
async function putFile(
  context: CliContext,
  api: Api,
  { parent, displayName, file }: { parent: string; displayName: string; file: string },
): Promise<Artifact> {
  const { terminal } = context;
  const size = sizeOf(file);
  using line = progressLine(terminal, `reading ${displayName}`);
  const header = { parent, displayName, uploadId: randomUUID(), sha256: await sha256Of(file) };
  let offset = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      const source = createReadStream(file, { start: offset, highWaterMark: PIECE_BYTES });
      const show = (done: number): void =>
        line.say(`${displayName}  ${binarySize(done)} of ${binarySize(size)}`);
      return await api.artifacts.uploadArtifact(pieces(header, offset, source, show));
    } catch (error) {
      if (Fault.from(error).code !== "UNAVAILABLE" || attempt === RESUME_ATTEMPTS) throw error;
      await delay(RESUME_PAUSE_MS);
      const upload = await api.artifacts
        .getUpload({ parent, uploadId: header.uploadId })
        .catch(notBegun);
      if (upload?.artifact !== undefined) return upload.artifact;
      offset = Number(upload?.committedBytes ?? 0n);
      terminal.err(`connection lost; the upload goes on at byte ${offset}\n`);
    }
  }
}

/** An upload that broke before its first byte was kept is not known there. */
function notBegun(error: unknown): undefined {
  if (Fault.from(error).code === "NOT_FOUND") return undefined;
  throw error;
}

function sizeOf(file: string): number {
  try {
    const stat = statSync(file);
    if (stat.isFile()) return stat.size;
  } catch (error) {
    throw new CliError(`${file} cannot be read`, { why: (error as Error).message, cause: error });
  }
  throw new CliError(`${file} is not a file`, {
    hint: `tar c ${file} | fastgpu data put - --name ${basename(file)}.tar`,
  });
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

/** `data get ARTIFACT [FILE]` */
export async function getData(
  context: CliContext,
  options: CommonOptions,
  typed: string,
  file?: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const { terminal } = context;
    const name = await resolveName("artifacts", typed, api.project);
    const { displayName, sizeBytes, sha256 } = await api.artifacts.getArtifact({ name });
    using line = progressLine(terminal, displayName);
    const source = {
      api,
      terminal,
      artifact: name,
      sizeBytes,
      sha256,
      signal: context.interruptible(),
      onBytes: (done: number) =>
        line.say(`${displayName}  ${binarySize(done)} of ${binarySize(sizeBytes)}`),
    };
    if (file === "-") {
      await download(source, (bytes) => terminal.out(bytes));
      return;
    }
    // Only the last part of a name that someone else chose.
    const path = file ?? basename(displayName);
    if (path === "" || path === "." || path === "..") {
      throw new CliError("the artifact's name is not a file name", {
        hint: `fastgpu data get ${typed} FILE`,
        exitCode: exitCodes.refused,
      });
    }
    await downloadToFile(source, path);
    terminal.err(`${path}  ${binarySize(sizeBytes)}\n`);
  });
}

/** `data list` */
export async function listData(
  context: CliContext,
  options: CommonOptions & { limit: number },
): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.project();
    const { items } = await collectPages(
      options.limit,
      (page) => api.artifacts.listArtifacts({ parent, ...page }),
      ({ artifacts }) => artifacts,
    );
    await printList(
      printOptions(context, options),
      artifactView(context.nowMs()),
      items,
      "no files yet",
    );
  });
}

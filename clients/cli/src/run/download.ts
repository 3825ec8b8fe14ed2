import { createHash } from "node:crypto";
import { createWriteStream, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, isAbsolute, normalize, resolve, sep } from "node:path";
import { once } from "node:events";
import { finished } from "node:stream/promises";
import type { Api } from "../api/connect.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import type { Terminal } from "../output/terminal.ts";
import { readResuming } from "./resume.ts";

/** A file to fetch. */
export interface Download {
  api: Api;
  terminal: Terminal;
  /** Resource name of the artifact. */
  artifact: string;
  sizeBytes: bigint;
  /** Hexadecimal SHA-256 that the content must have; empty: not checked. */
  sha256: string;
  signal: AbortSignal;
  onBytes?: ((done: number) => void) | undefined;
}

/**
 * Fetches an artifact over lost connections and hands its bytes on in order. Throws where the
 * content is not what its checksum says.
 */
export async function download(
  options: Download,
  write: (bytes: Uint8Array) => Promise<void> | void,
): Promise<void> {
  const { api, terminal, artifact, sizeBytes, sha256, signal } = options;
  const hash = createHash("sha256");
  let offset = 0;
  let written: Promise<void> | void = Promise.resolve();
  await readResuming({
    open: () =>
      withBackPressure(
        api.artifacts.downloadArtifact({ name: artifact, offset: BigInt(offset) }, { signal }),
        () => written,
      ),
    take({ data }) {
      hash.update(data);
      offset += data.length;
      written = write(data);
      options.onBytes?.(offset);
    },
    complete: () => BigInt(offset) >= sizeBytes,
    onBreak: (fault) =>
      terminal.err(`connection lost (${fault.message}); it goes on at byte ${offset}\n`),
    onResume: () => terminal.err("connected again\n"),
    signal,
  });
  await written;
  if (signal.aborted) throw new CliError("interrupted", { exitCode: exitCodes.interrupted });
  const got = hash.digest("hex");
  if (sha256 !== "" && got !== sha256) {
    throw new CliError(`${artifact} arrived damaged`, {
      why: `its SHA-256 is ${got} and should be ${sha256}`,
      hint: "the same command again",
      exitCode: exitCodes.damaged,
    });
  }
}

/** Asks for the next message only once the last one is written: a large file stays out of memory. */
async function* withBackPressure<T>(
  messages: AsyncIterable<T>,
  written: () => Promise<void> | void,
): AsyncIterable<T> {
  for await (const message of messages) {
    yield message;
    await written();
  }
}

/** Fetches into a file, which appears under its name only when it is whole. */
export async function downloadToFile(options: Download, path: string): Promise<void> {
  mkdirSync(dirname(resolve(path)), { recursive: true });
  const draft = `${path}.${process.pid}.part`;
  const file = createWriteStream(draft);
  const failed = finished(file);
  try {
    await Promise.race([
      failed,
      download(options, async (bytes) => {
        if (!file.write(bytes)) await once(file, "drain");
      }),
    ]);
    file.end();
    await failed;
    renameSync(draft, path);
  } catch (error) {
    failed.catch(() => undefined);
    file.destroy();
    rmSync(draft, { force: true });
    throw error;
  }
}

/**
 * The place below `directory` for a path that a task chose. Throws where it would lie elsewhere:
 * what a task calls its files must not decide what is written on this machine.
 */
export function placeBelow(directory: string, path: string): string {
  const clean = normalize(path);
  if (isAbsolute(clean) || clean === ".." || clean.startsWith(`..${sep}`) || path.includes("\0")) {
    throw new CliError(`the file name ${JSON.stringify(path)} leads out of the directory`, {
      why: "it is absolute or climbs up",
      exitCode: exitCodes.refused,
    });
  }
  return resolve(directory, clean);
}

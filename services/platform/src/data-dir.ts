import { createHash, createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { processInfo } from "@fastgpu/lifecycle/child";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import { generateServiceKeys } from "@fastgpu/rpc/tokens";

/** Version of what lies in a data directory; a newer one is refused. */
const layoutVersion = 1;

/** Services that own a schema in the database. */
export const databaseServices = ["auth", "scheduler", "billing", "storage"] as const;

/** Services that call or are called with a key of their own. */
const keyedServices = ["auth", "scheduler", "billing", "monitor", "storage"] as const;

/** An opened data directory: ours alone until it is disposed. */
export interface DataDir extends Disposable {
  readonly path: string;
  /** Directory of the unix sockets. */
  readonly sockets: string;
  readonly masterKeyFile: string;
  /** The random password of a database role, of `postgres` and of `nats`. */
  password(role: string): string;
  /** Private keys (PEM) of the services, by name. */
  readonly privateKeys: Readonly<Record<string, string>>;
  /** Public keys (PEM) of the services, by name. */
  readonly publicKeys: Readonly<Record<string, string>>;
}

/** Opens DATA, making it at the first start. Refused while another process has it, or where a newer version made it. */
export async function openDataDir(path: string): Promise<DataDir> {
  const root = resolve(path);
  // Others may pass through, not look: as root, the database runs as a user of its own inside.
  await mkdir(root, { recursive: true, mode: 0o711 }).catch((error: unknown) => {
    throw new Fault("ILLEGAL_STATE", `cannot make ${root}: ${String(error)}`, {
      hint: "name a folder that you may write to with --data DIR",
      cause: error,
    });
  });
  const lock = takeLock(root);
  try {
    checkLayout(root);
    for (const part of ["keys", "run", "log", "storage"]) {
      await mkdir(join(root, part), { recursive: true, mode: 0o700 });
    }
    const masterKeyFile = join(root, "keys", "master.key");
    const master = await openMasterKey(masterKeyFile);
    const privateKeys = serviceKeys(join(root, "keys", "services.json"));
    const passwords = passwordsOf(join(root, "keys", "passwords.json"));
    const sockets = await socketDir(root, master.derive("platform/sockets"));
    return {
      path: root,
      sockets,
      masterKeyFile,
      password: passwords,
      privateKeys,
      publicKeys: Object.fromEntries(
        Object.entries(privateKeys).map(([name, pem]) => [name, publicPem(pem)]),
      ),
      [Symbol.dispose]() {
        if (!sockets.startsWith(`${root}/`)) rmSync(sockets, { recursive: true, force: true });
        lock();
      },
    };
  } catch (error) {
    lock();
    throw error;
  }
}

interface LockFile {
  readonly pid: number;
  /** When the process started, in clock ticks since boot: a process id alone may belong to somebody else by now. */
  readonly startTicks: string;
}

function takeLock(root: string): () => void {
  const path = join(root, "lock");
  const own: LockFile = { pid: process.pid, startTicks: startTicks(process.pid) ?? "" };
  for (;;) {
    try {
      writeNew(path, JSON.stringify(own));
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = readLock(path);
    if (holder !== undefined && startTicks(holder.pid) === holder.startTicks) {
      const program = processInfo(holder.pid)?.args.slice(1, 4).join(" ") ?? "";
      throw new Fault("ILLEGAL_STATE", `${root} is in use by process ${holder.pid} (${program})`, {
        hint: "stop that platform first, or choose another directory with --data",
      });
    }
    rmSync(path, { force: true });
  }
}

function readLock(path: string): LockFile | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as LockFile;
  } catch {
    return undefined;
  }
}

function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The program's name is in brackets and may hold spaces: count from behind it.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function checkLayout(root: string): void {
  const path = join(root, "layout");
  const found = readOptional(path);
  if (found === undefined) {
    writeNew(path, `${layoutVersion}\n`);
    return;
  }
  if (Number(found) > layoutVersion) {
    throw new Fault(
      "ILLEGAL_STATE",
      `${root} has layout ${found.trim()}, this version knows ${layoutVersion}`,
      { hint: "start it with the newer FastGPU that made it, or choose another --data" },
    );
  }
}

function passwordsOf(path: string): (role: string) => string {
  const known = new Map<string, string>(Object.entries(readJson(path)));
  return (role) => {
    const found = known.get(role);
    if (found !== undefined) return found;
    const made = randomBytes(24).toString("base64url").replaceAll(/[-_]/g, "0");
    known.set(role, made);
    replaceFile(path, JSON.stringify(Object.fromEntries(known), null, 2));
    return made;
  };
}

function serviceKeys(path: string): Record<string, string> {
  const keys = readJson(path);
  const missing = keyedServices.filter((name) => keys[name] === undefined);
  for (const name of missing) keys[name] = generateServiceKeys().privateKeyPem;
  if (missing.length > 0) replaceFile(path, JSON.stringify(keys, null, 2));
  return keys;
}

function publicPem(privatePem: string): string {
  return createPublicKey(createPrivateKey(privatePem))
    .export({ type: "spki", format: "pem" })
    .toString();
}

/** A unix socket's path has at most 107 bytes: a deep DATA gets its sockets a place of their own. */
async function socketDir(root: string, key: Buffer): Promise<string> {
  const own = join(root, "run");
  if (Buffer.byteLength(own) <= 80) return own;
  const name = createHash("sha256").update(key).update(root).digest("hex").slice(0, 16);
  const path = join(tmpdir(), `fastgpu-${name}`);
  await mkdir(path, { recursive: true, mode: 0o700 });
  return path;
}

function readJson(path: string): Record<string, string> {
  const text = readOptional(path);
  return text === undefined ? {} : (JSON.parse(text) as Record<string, string>);
}

function readOptional(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function writeNew(path: string, text: string): void {
  const file = openSync(path, "wx", 0o600);
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
}

function replaceFile(path: string, text: string): void {
  const next = `${path}.${process.pid}.new`;
  rmSync(next, { force: true });
  writeNew(next, text);
  renameSync(next, path);
}

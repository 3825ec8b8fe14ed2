import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";

/** The one secret of an installation. Everything else secret is derived from it or sealed under it. */
export interface MasterKey {
  /** A 32-byte key for one purpose (HKDF-SHA256, RFC 5869): keys of two purposes tell nothing of each other. */
  derive(purpose: string): Buffer;
  /** Encrypts and authenticates (AES-256-GCM). `context` says what it is: {@link open} needs the same one. */
  seal(plaintext: Uint8Array, context: string): Buffer;
  /** Undoes {@link seal}; a Fault where the bytes, the context or the master key are not the ones sealed with. */
  open(sealed: Uint8Array, context: string): Buffer;
}

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const FORMAT = 1;

/** A master key from its 32 bytes. */
export function masterKeyOf(secret: Uint8Array): MasterKey {
  if (secret.length !== KEY_BYTES) throw new RangeError("a master key has 32 bytes");
  const derive = (purpose: string): Buffer =>
    Buffer.from(hkdfSync("sha256", secret, Buffer.alloc(0), `fastgpu/${purpose}`, KEY_BYTES));
  const sealing = derive("seal");
  return {
    derive,
    seal: (plaintext, context) => seal(sealing, plaintext, context),
    open(sealed, context) {
      const plaintext = unseal(sealing, sealed, context);
      if (plaintext !== undefined) return plaintext;
      throw new Fault("INTERNAL", `cannot decrypt ${context}`, {
        hint: "is keys/master.key the one this data was made with?",
      });
    },
  };
}

/** Format byte, nonce, ciphertext, tag; the context is authenticated, not stored. */
export function seal(key: Uint8Array, plaintext: Uint8Array, context: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(context));
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([Buffer.of(FORMAT), nonce, body, cipher.getAuthTag()]);
}

/** Undoes {@link seal}; undefined where anything does not fit. */
export function unseal(key: Uint8Array, sealed: Uint8Array, context: string): Buffer | undefined {
  if (sealed.length < 1 + NONCE_BYTES + TAG_BYTES || sealed[0] !== FORMAT) return undefined;
  const body = sealed.length - TAG_BYTES;
  const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(sealed.subarray(body));
  try {
    return Buffer.concat([
      decipher.update(sealed.subarray(1 + NONCE_BYTES, body)),
      decipher.final(),
    ]);
  } catch {
    return undefined;
  }
}

/**
 * Reads `path`, or makes it at the first start: mode 0600, durable before it is used, and one winner where several
 * processes start at once. A file that other users can read or change is refused.
 */
export async function openMasterKey(path: string): Promise<MasterKey> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) {
    await createMasterKey(path);
    return openMasterKey(path);
  }
  const { mode } = await stat(path);
  if ((mode & 0o027) !== 0) {
    throw new Fault("ILLEGAL_STATE", `${path} is open to other users`, {
      hint: `chmod 600 ${path}`,
    });
  }
  if (!/^[0-9a-f]{64}\n?$/.test(text)) {
    throw new Fault("ILLEGAL_STATE", `${path} is not a master key (64 hexadecimal digits)`, {
      hint: "restore it from a backup: without it nothing that is encrypted can be read",
    });
  }
  return masterKeyOf(Buffer.from(text.trim(), "hex"));
}

async function createMasterKey(path: string): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const draft = join(directory, `.master-${randomBytes(6).toString("hex")}`);
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(`${randomBytes(KEY_BYTES).toString("hex")}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    // A link never replaces: the first process wins, the others read its key.
    await link(draft, path);
    await using parent = await open(directory, "r");
    await parent.sync();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

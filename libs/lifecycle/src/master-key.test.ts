import { chmod, mkdtemp, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { masterKeyOf, openMasterKey } from "./master-key.ts";

const scratch = (): Promise<string> => mkdtemp(join(tmpdir(), "fastgpu-key-"));

test("what is sealed opens with the same context and no other", () => {
  const master = masterKeyOf(randomBytes(32));
  const sealed = master.seal(Buffer.from("private"), "signing-key/1");
  expect(master.open(sealed, "signing-key/1").toString()).toBe("private");
  expect(() => master.open(sealed, "signing-key/2")).toThrow(/cannot decrypt signing-key\/2/);
  expect(() => masterKeyOf(randomBytes(32)).open(sealed, "signing-key/1")).toThrow(
    /cannot decrypt/,
  );
});

test("every flipped byte of a sealed value is noticed", () => {
  const master = masterKeyOf(randomBytes(32));
  const sealed = master.seal(Buffer.from("private"), "x");
  for (let i = 0; i < sealed.length; i += 1) {
    const damaged = Buffer.from(sealed);
    damaged[i] = (damaged[i] ?? 0) ^ 1;
    expect(() => master.open(damaged, "x")).toThrow(/cannot decrypt/);
  }
});

test("keys of two purposes differ and are stable", () => {
  const secret = randomBytes(32);
  const [a, b] = [masterKeyOf(secret), masterKeyOf(secret)];
  expect(a.derive("api-keys")).toEqual(b.derive("api-keys"));
  expect(a.derive("api-keys")).not.toEqual(a.derive("page-tokens"));
});

test("processes that start at once agree on one key, and the next start reads it", async () => {
  const path = join(await scratch(), "keys", "master.key");
  const keys = await Promise.all(Array.from({ length: 8 }, () => openMasterKey(path)));
  const derived = new Set(keys.map((key) => key.derive("x").toString("hex")));
  expect(derived.size).toBe(1);
  expect((await openMasterKey(path)).derive("x")).toEqual(keys[0]?.derive("x"));
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("a key file open to others or damaged is refused and left alone", async () => {
  const path = join(await scratch(), "master.key");
  await openMasterKey(path);
  await chmod(path, 0o644);
  await expect(openMasterKey(path)).rejects.toThrow(/open to other users/);
  await chmod(path, 0o600);
  await writeFile(path, "short\n");
  await expect(openMasterKey(path)).rejects.toThrow(/not a master key/);
  expect(await readFile(path, "utf8")).toBe("short\n");
});

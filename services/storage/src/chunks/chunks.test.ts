import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { newId } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { CHUNK_BYTES, chunkAddress } from "./chunk-file.ts";
import type { ChunkAddress, ChunkKeys } from "./chunk-file.ts";
import { openChunkStore } from "./chunk-store.ts";
import { split } from "./splitter.ts";

const newKeys = (): ChunkKeys => ({ encryption: randomBytes(32), address: randomBytes(32) });
const newOrg = (): OrgId => newId("org", 1_790_000_000_000, randomBytes(10));
const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
};
const scratch = (): Promise<string> => mkdtemp(join(tmpdir(), "fastgpu-chunks-"));
const fileOf = (root: string, org: OrgId, address: ChunkAddress): string =>
  join(root, org, address.slice(0, 2), address);

test("content comes back byte for byte, whatever its size and entropy", async () => {
  const store = await openChunkStore(await scratch());
  const [org, keys] = [newOrg(), newKeys()];
  const contents = [
    Buffer.alloc(0),
    Buffer.of(7),
    Buffer.alloc(CHUNK_BYTES, "abc"),
    randomBytes(CHUNK_BYTES),
    Buffer.concat([randomBytes(40_000), Buffer.alloc(500_000)]),
  ];
  for (const content of contents) {
    const address = await store.put(org, keys, content);
    expect((await store.get(org, keys, address)).equals(content)).toBe(true);
  }
});

test("equal content is stored once in an organisation and apart between organisations", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const content = Buffer.alloc(100_000, "same");
  const [orgA, orgB] = [newOrg(), newOrg()];
  const [keysA, keysB] = [newKeys(), newKeys()];
  const a1 = await store.put(orgA, keysA, content);
  const before = await readFile(fileOf(root, orgA, a1));
  const a2 = await store.put(orgA, keysA, content);
  const b = await store.put(orgB, keysB, content);
  expect(a2).toBe(a1);
  expect(await readFile(fileOf(root, orgA, a1))).toEqual(before);
  expect(b).not.toBe(a1);
  await expect(store.get(orgB, keysB, a1)).rejects.toThrow(/damaged or missing/);
});

test("what lies on disk shows neither the content nor its hash", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const [org, keys] = [newOrg(), newKeys()];
  const content = Buffer.from("a secret that must not be seen ".repeat(10));
  const address = await store.put(org, keys, content);
  const file = await readFile(fileOf(root, org, address));
  expect(file.includes("secret")).toBe(false);
  expect(address).not.toBe(createHash("sha256").update(content).digest("hex"));
});

test("compressible content takes less room; random content no more than its seal", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const [org, keys] = [newOrg(), newKeys()];
  const text = await store.put(org, keys, Buffer.alloc(CHUNK_BYTES, "text "));
  const noise = await store.put(org, keys, randomBytes(CHUNK_BYTES));
  expect((await readFile(fileOf(root, org, text))).length).toBeLessThan(CHUNK_BYTES / 100);
  expect((await readFile(fileOf(root, org, noise))).length).toBeLessThan(CHUNK_BYTES + 64);
});

test("a flipped bit, a cut, another chunk's file or no file is refused and named", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const [org, keys] = [newOrg(), newKeys()];
  const address = await store.put(org, keys, Buffer.from("content ".repeat(50)));
  const path = fileOf(root, org, address);
  const good = await readFile(path);
  const refused = async (): Promise<void> => {
    const fault = await store.get(org, keys, address).catch((error: unknown) => error);
    expect(fault).toMatchObject({ reason: "CHECKSUM_MISMATCH", metadata: { chunk: address } });
  };
  for (let i = 0; i < good.length; i += 1) {
    const bad = Buffer.from(good);
    bad[i] = (bad[i] ?? 0) ^ 0x10;
    await writeFile(path, bad);
    await refused();
  }
  await truncate(path, 3);
  await refused();
  const other = await store.put(org, keys, Buffer.from("other"));
  await writeFile(path, await readFile(fileOf(root, org, other)));
  await refused();
  await store.remove(org, address);
  await refused();
});

test("storing the content again repairs a damaged chunk", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const [org, keys] = [newOrg(), newKeys()];
  const content = randomBytes(5_000);
  const address = await store.put(org, keys, content);
  await writeFile(fileOf(root, org, address), "rubbish");
  await store.put(org, keys, content);
  expect((await store.get(org, keys, address)).equals(content)).toBe(true);
});

test("many writers of the same chunks at once leave each chunk whole and no draft", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  const [org, keys] = [newOrg(), newKeys()];
  const contents = Array.from({ length: 6 }, (_, i) => Buffer.alloc(20_000, `chunk ${i}`));
  await Promise.all(
    Array.from({ length: 60 }, (_, i) => store.put(org, keys, contents[i % 6] ?? Buffer.of())),
  );
  for (const content of contents) {
    expect((await store.get(org, keys, chunkAddress(keys, content))).equals(content)).toBe(true);
  }
  const listed = await collect(store.list(org));
  expect(listed.length).toBe(6);
  expect(await readdir(join(root, "tmp"))).toEqual([]);
});

test("drafts of dead writers are swept, fresh ones stay", async () => {
  const root = await scratch();
  const store = await openChunkStore(root);
  await writeFile(join(root, "tmp", "dead"), "x");
  await utimes(join(root, "tmp", "dead"), 1_000, 1_000);
  await writeFile(join(root, "tmp", "alive"), "x");
  await utimes(join(root, "tmp", "alive"), 3_000, 3_000);
  expect(await store.sweepDrafts(2_000_000)).toBe(1);
  expect(await readdir(join(root, "tmp"))).toEqual(["alive"]);
});

test("cutting keeps every byte and its order, whatever the sizes of the pieces", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 700_000 }), { maxLength: 8 }),
      async (sizes) => {
        const whole = randomBytes(sizes.reduce((sum, size) => sum + size, 0));
        let at = 0;
        const pieces = sizes.map((size) => whole.subarray(at, (at += size)));
        const chunks = await collect(
          split(
            (async function* () {
              yield* pieces;
            })(),
          ),
        );
        expect(Buffer.concat(chunks).equals(whole)).toBe(true);
        for (const chunk of chunks.slice(0, -1)) expect(chunk.length).toBe(CHUNK_BYTES);
        expect(chunks.every((chunk) => chunk.length > 0)).toBe(true);
      },
    ),
    { numRuns: 30 },
  );
});

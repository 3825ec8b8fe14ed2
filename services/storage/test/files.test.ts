import { randomBytes } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { idToUuid } from "@fastgpu/domain/ids";
import type { ArtifactId } from "@fastgpu/domain/ids";
import { eventually } from "@fastgpu/testkit/signals";
import { hold, type Held } from "./held.ts";
import {
  collectBytes,
  faultOf,
  MIB,
  runStorage,
  sha256,
  storageWorld,
  uploadOf,
} from "./running-storage.ts";
import type { StorageWorld, Tenant } from "./running-storage.ts";

let world: StorageWorld;
let running: AsyncDisposable;
beforeAll(async () => {
  world = await storageWorld({ maxArtifactBytes: 20 * MIB });
  running = await runStorage(world);
});
afterAll(async () => {
  await running[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

const editor = (tenant: Tenant) => world.as(ArtifactService, "project_editor", tenant);

async function chunkFiles(tenant: Tenant): Promise<string[]> {
  const home = join(world.config.directory, tenant.org);
  const parts = await readdir(home).catch(() => []);
  const lists = await Promise.all(
    parts.map(async (part) =>
      (await readdir(join(home, part))).map((name) => join(home, part, name)),
    ),
  );
  return lists.flat();
}

describe("a file", () => {
  test("comes back byte for byte, whatever its size, from any offset", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    for (const size of [0, 1, 4_095, MIB - 1, MIB, MIB + 1, 5 * MIB + 12_345]) {
      const content = randomBytes(size);
      const artifact = await client.uploadArtifact(
        uploadOf(content, {
          parent: tenant.parent,
          displayName: `f${size}`,
          sha256: sha256(content),
        }),
      );
      expect(artifact).toMatchObject({
        sizeBytes: BigInt(size),
        sha256: sha256(content),
        attempt: "",
      });
      const offsets = [0, 1, MIB - 1, MIB, MIB + 7, size].filter((offset) => offset <= size);
      for (const offset of offsets) {
        const bytes = await collectBytes(
          client.downloadArtifact({ name: artifact.name, offset: BigInt(offset) }),
        );
        expect(bytes.equals(content.subarray(offset)), `${size} from ${offset}`).toBe(true);
      }
      const beyond = collectBytes(
        client.downloadArtifact({ name: artifact.name, offset: BigInt(size + 1) }),
      );
      expect((await faultOf(beyond)).violations[0]?.field).toBe("offset");
      expect(await client.getArtifact({ name: artifact.name })).toMatchObject({
        displayName: `f${size}`,
      });
    }
  });

  test("lies encrypted on disk, and once however often its content is stored", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = Buffer.alloc(3 * MIB, "the quick brown fox ");
    for (let i = 0; i < 3; i += 1) {
      await client.uploadArtifact(uploadOf(content, { parent: tenant.parent }));
    }
    const files = await chunkFiles(tenant);
    expect(files.length).toBeLessThanOrEqual(3);
    for (const file of files) expect((await readFile(file)).includes("quick brown")).toBe(false);
  });

  test("with a damaged or lost chunk is told as such, by name, and the bytes before it are right", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = randomBytes(3 * MIB);
    const artifact = await client.uploadArtifact(uploadOf(content, { parent: tenant.parent }));
    for (const file of await chunkFiles(tenant)) {
      const good = await readFile(file);
      const bad = Buffer.from(good);
      bad[500] = (bad[500] ?? 0) ^ 1;
      for (const damage of [() => writeFile(file, bad), () => rm(file)]) {
        await damage();
        const received: Uint8Array[] = [];
        const fault = await faultOf(
          (async () => {
            for await (const { data } of client.downloadArtifact({ name: artifact.name }))
              received.push(data);
          })(),
        );
        expect(fault).toMatchObject({ reason: "CHECKSUM_MISMATCH", code: "DATA_LOSS" });
        expect(file.endsWith(fault.metadata["chunk"] ?? "?")).toBe(true);
        const bytes = Buffer.concat(received);
        expect(bytes.equals(content.subarray(0, bytes.length))).toBe(true);
        await writeFile(file, good);
      }
    }
  });
});

describe("what attempts leave", () => {
  const store = ({ client, attempt }: Held, { parent }: Tenant, displayName: string) =>
    client.storeArtifact(
      uploadOf(contents[displayName] ?? model, { parent, displayName, attempt }),
    );
  const model = randomBytes(70_000);
  const contents: Record<string, Buffer> = { "log.txt": Buffer.from("epoch 1\n") };

  test("a manifest has one digest whatever the order of its files, and is read by the tenant", async () => {
    const tenant = world.newTenant();
    const held = await hold(world, tenant);
    const { attempt, client } = held;
    const [a, b] = [await store(held, tenant, "model.bin"), await store(held, tenant, "log.txt")];
    expect(a.attempt).toBe(attempt);
    const files = [
      { path: "out/model.bin", sizeBytes: a.sizeBytes, sha256: a.sha256, artifact: a.name },
      { path: "log.txt", sizeBytes: b.sizeBytes, sha256: b.sha256, artifact: b.name },
    ];
    const request = { parent: tenant.parent, attempt };
    const first = await client.putManifest({ ...request, files });
    const second = await client.putManifest({ ...request, files: files.toReversed() });
    expect(second.digest).toBe(first.digest);
    const read = await editor(tenant).getManifest({ parent: tenant.parent, digest: first.digest });
    expect(read.files.map((file) => file.path)).toEqual(["log.txt", "out/model.bin"]);
    const inputs = [a.name.split("/")[3] as ArtifactId];
    const next = await hold(world, tenant, { inputs });
    const fetched = await collectBytes(
      next.client.fetchArtifact({ name: a.name, offset: 60_000n }),
    );
    expect(fetched.equals(model.subarray(60_000))).toBe(true);
  });

  test("a manifest with a bad path, a foreign or unknown artifact, or another digest is refused", async () => {
    const [tenant, other] = [world.newTenant(), world.newTenant()];
    const held = await hold(world, tenant);
    const { attempt, client } = held;
    const a = await store(held, tenant, "a");
    const foreign = await store(await hold(world, other), other, "a");
    const good = { path: "a", sizeBytes: a.sizeBytes, sha256: a.sha256, artifact: a.name };
    const put = (files: object[]) =>
      faultOf(client.putManifest({ parent: tenant.parent, attempt, files }));
    const bad = ["/a", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "a\nb"];
    for (const path of bad) {
      expect((await put([{ ...good, path }])).violations[0]?.field, path).toBe("files[0].path");
    }
    expect((await put([good, good])).violations[0]?.field).toBe("files[1].path");
    expect((await put([{ ...good, artifact: foreign.name }])).reason).toBe("INVALID_FIELD");
    const disguised = `${tenant.parent}/artifacts/${foreign.name.split("/")[3]}`;
    expect((await put([{ ...good, artifact: disguised }])).reason).toBe("NOT_FOUND");
    expect((await put([{ ...good, sizeBytes: 11n }])).violations[0]?.field).toBe("files[0].sha256");
    const nowhere = client.putManifest({ parent: "projects/nope", attempt, files: [good] });
    expect((await faultOf(nowhere)).reason).toBe("PERMISSION_DENIED");
  });
});

describe("lists", () => {
  test("pages joined are the whole list, newest first", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    for (let i = 0; i < 7; i += 1) {
      world.clock.advance(1);
      await client.uploadArtifact(
        uploadOf(Buffer.from(`${i}`), { parent: tenant.parent, displayName: `n${i}` }),
      );
    }
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await client.listArtifacts({ parent: tenant.parent, pageSize: 3, pageToken });
      names.push(...page.artifacts.map((artifact) => artifact.displayName));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(names).toEqual(["n6", "n5", "n4", "n3", "n2", "n1", "n0"]);
  });
});

test("each user's upload is one audit fact in the event log, a worker's is none", async () => {
  const tenant = world.newTenant();
  const artifact = await editor(tenant).uploadArtifact(
    uploadOf(Buffer.from("x"), { parent: tenant.parent }),
  );
  const { attempt, client } = await hold(world, tenant);
  await client.storeArtifact(uploadOf(Buffer.from("y"), { parent: tenant.parent, attempt }));
  const facts = await eventually("the relay has sequenced it", async () => {
    const rows = await world.db.core.query<{ type: string; aggregate: string }>(
      { name: "facts", text: "SELECT type, aggregate FROM event_log WHERE org_id = $1" },
      [idToUuid(tenant.org)],
    );
    return rows.length > 0 ? rows : undefined;
  });
  expect(facts).toEqual([
    { type: "fastgpu.events.v1.AuditRecorded", aggregate: artifact.name.split("/")[3] },
  ]);
});

import { randomBytes, randomUUID } from "node:crypto";
import { readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { create } from "@bufbuild/protobuf";
import {
  ArtifactService,
  UploadArtifactRequestSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { createGrantVerifier } from "@fastgpu/rpc/storage-grant";
import { generateServiceKeys } from "@fastgpu/rpc/tokens";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { openChunkStore } from "../src/chunks/chunk-store.ts";
import { openDataKeys } from "../src/chunks/data-keys.ts";
import { collect } from "../src/collect.ts";
import type { StorageParts } from "../src/parts.ts";
import { createSlots } from "../src/slots.ts";
import { readHeader, receiveUpload } from "../src/upload.ts";
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

async function* uploadRequests(content: Buffer, { parent }: Tenant) {
  for await (const message of uploadOf(content, { parent })) {
    yield create(UploadArtifactRequestSchema, message);
  }
}

describe("collecting", () => {
  const pass = async (uploadsBeforeMs: number, draftsBeforeMs: number = 0) =>
    collect({
      core: world.db.core,
      store: await openChunkStore(world.config.directory),
      uploadsBeforeMs,
      nowMs: world.clock.nowMs(),
      chunksBeforeMs: Number.MAX_SAFE_INTEGER,
      draftsBeforeMs,
      stop: new AbortController().signal,
    });

  test("removes what nothing names and leaves every artifact whole, beside uploads of the same content", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const [kept, lost] = [randomBytes(2 * MIB), randomBytes(3 * MIB)];
    const artifact = await client.uploadArtifact(uploadOf(kept, { parent: tenant.parent }));
    const wrong = { parent: tenant.parent, sha256: sha256(kept) };
    await faultOf(client.uploadArtifact(uploadOf(lost, wrong)));
    expect((await chunkFiles(tenant)).length).toBe(5);
    const uploads = Array.from({ length: 6 }, () =>
      client.uploadArtifact(uploadOf(lost, { parent: tenant.parent })),
    );
    const passes = Array.from({ length: 6 }, () => pass(0));
    const stored = await Promise.all(uploads);
    await Promise.all(passes);
    await pass(0);
    for (const one of stored) {
      const bytes = await collectBytes(client.downloadArtifact({ name: one.name }));
      expect(bytes.equals(lost)).toBe(true);
    }
    const bytes = await collectBytes(client.downloadArtifact({ name: artifact.name }));
    expect(bytes.equals(kept)).toBe(true);
    expect((await chunkFiles(tenant)).length).toBe(5);
  });

  test("between any two steps of an upload takes none of its chunks, old or new", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = randomBytes(6 * MIB + 5);
    // Half of the content lies there already, and nothing names it any more.
    const wrong = { parent: tenant.parent, sha256: sha256(content) };
    await faultOf(client.uploadArtifact(uploadOf(content.subarray(0, 3 * MIB), wrong)));
    const store = await openChunkStore(world.config.directory);
    const { clock, db } = world;
    const master = await openMasterKey(world.config.masterKeyFile);
    const parts: StorageParts = {
      ...{ clock, db, maxArtifactBytes: 20 * MIB, uploadSilenceMs: 60_000 },
      dataKeys: openDataKeys({ core: db.core, master, clock }),
      pageTokens: createPageTokens(randomBytes(32)),
      uploadSlots: createSlots("uploads", 2),
      downloadSlots: createSlots("downloads", 2),
      grants: createGrantVerifier({ schedulerKeyPem: generateServiceKeys().publicKeyPem, clock }),
      requireGrants: true,
      resolveProject: () => undefined,
      wakeRelay: () => undefined,
      store: {
        ...store,
        async put(...what) {
          const address = await store.put(...what);
          await pass(0);
          return address;
        },
      },
    };
    const requests = uploadRequests(content, tenant);
    const { header, pieces } = await readHeader(requests);
    const artifact = await receiveUpload(parts, {
      ...{ tenant, header, pieces },
      onComplete: async () => {
        await pass(0);
      },
    });
    await pass(0);
    const name = `${tenant.parent}/artifacts/${artifact.artifactId}`;
    const bytes = await collectBytes(client.downloadArtifact({ name }));
    expect(bytes.equals(content)).toBe(true);
  });

  test("gives up uploads without progress, and their chunks with them", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const uploadId = randomUUID();
    const stop = new AbortController();
    const points = namedSignals();
    const hanging = client.uploadArtifact(
      (async function* () {
        yield* uploadOf(randomBytes(5 * MIB), { parent: tenant.parent, uploadId });
        await points.fired("never").catch(() => undefined);
      })(),
      { signal: stop.signal },
    );
    hanging.catch(() => undefined);
    await eventually("chunks on disk", async () => (await chunkFiles(tenant)).length >= 4);
    stop.abort();
    await faultOf(hanging);
    await pass(0);
    const still = await client.getUpload({ parent: tenant.parent, uploadId });
    expect(Number(still.committedBytes)).toBeGreaterThanOrEqual(4 * MIB);
    const rows = {
      name: "idle_uploads",
      text: "UPDATE uploads SET updated_ms = 1 WHERE upload_id = $1",
    };
    // The server may still be writing what it had received when the stream broke.
    await eventually("the upload and its chunks are gone", async () => {
      await world.db.core.query(rows, [uploadId]);
      await pass(1_000);
      return (await chunkFiles(tenant)).length === 0;
    });
    const gone = await faultOf(client.getUpload({ parent: tenant.parent, uploadId }));
    expect(gone.reason).toBe("NOT_FOUND");
  });

  test("sweeps drafts of dead writers", async () => {
    const draft = join(world.config.directory, "tmp", "dead");
    await writeFile(draft, "x");
    await utimes(draft, 1, 1);
    expect((await pass(0, 2_000)).drafts).toBe(1);
  });
});

import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { quiet } from "@fastgpu/testkit/log";
import { eventually } from "@fastgpu/testkit/signals";
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

describe("between tenants", () => {
  test("nothing of another project is read or written, by name or by disguise", async () => {
    const [a, b] = [world.newTenant(), world.newTenant()];
    const owner = editor(b);
    const content = randomBytes(1_000);
    const uploadId = randomUUID();
    const artifact = await owner.uploadArtifact(uploadOf(content, { parent: b.parent, uploadId }));
    const thief = editor(a);
    const disguised = `${a.parent}/artifacts/${artifact.name.split("/")[3]}`;
    const denied = [
      () => thief.getArtifact({ name: artifact.name }),
      () => thief.listArtifacts({ parent: b.parent }),
      () => thief.getUpload({ parent: b.parent, uploadId }),
      () => thief.uploadArtifact(uploadOf(content, { parent: b.parent })),
      () => collectBytes(thief.downloadArtifact({ name: artifact.name })),
      () => thief.getManifest({ parent: b.parent, digest: sha256(content) }),
    ];
    for (const call of denied) expect((await faultOf(call())).reason).toBe("PERMISSION_DENIED");
    const hidden = [
      () => thief.getArtifact({ name: disguised }),
      () => collectBytes(thief.downloadArtifact({ name: disguised })),
      () => thief.getUpload({ parent: a.parent, uploadId }),
      () => thief.getManifest({ parent: a.parent, digest: sha256(content) }),
    ];
    for (const call of hidden) expect((await faultOf(call())).reason).toBe("NOT_FOUND");
    // The same upload_id in another project is another upload.
    const own = await thief.uploadArtifact(uploadOf(content, { parent: a.parent, uploadId }));
    expect(own.name.startsWith(a.parent)).toBe(true);
    const viewer = world.as(ArtifactService, "project_viewer", b);
    expect((await viewer.getArtifact({ name: artifact.name })).name).toBe(artifact.name);
    const write = viewer.uploadArtifact(uploadOf(content, { parent: b.parent }));
    expect((await faultOf(write)).reason).toBe("PERMISSION_DENIED");
    const user = world.as(AttemptStorageService, "project_editor", b);
    const fetch = collectBytes(user.fetchArtifact({ name: artifact.name }));
    expect((await faultOf(fetch)).reason).toBe("PERMISSION_DENIED");
  });

  test("without a tenant the role under row-level security sees no row of any table", async () => {
    const tables = await world.db.core.query<{ name: string; secured: boolean }>({
      name: "tables_with_org",
      text: `SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS secured
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'storage'::regnamespace AND c.relkind = 'r' AND a.attname = 'org_id'
               AND c.relname NOT IN ('outbox', 'event_log')`,
    });
    expect(tables.map((table) => table.name)).toEqual(
      expect.arrayContaining([
        ...["artifact_chunks", "artifacts", "checkpoints", "data_keys", "manifests", "uploads"],
      ]),
    );
    for (const { name, secured } of tables) {
      expect(secured, name).toBe(true);
      const text = `SELECT count(*) AS n FROM ${name}`;
      const rows = await world.db.api.query<{ n: bigint }>({ name: `count_${name}`, text });
      expect(rows[0]?.n, name).toBe(0n);
    }
  });
});

test("a key that is revoked is refused here too, as soon as the signal arrives", async () => {
  const { natsUrl: url, natsPrefix: prefix } = world.config;
  await using bus = openNatsBus({ url, prefix, name: "told by auth", log: quiet });
  await bus.connected();
  const tenant = world.newTenant();
  const client = world.as(ArtifactService, "project_viewer", tenant);
  await client.listArtifacts({ parent: tenant.parent });
  const fault = await eventually("the revocation is known", async () => {
    bus.send(signals.keyRevoked, "key-02", { apiKey: "key-02" });
    const other = world.as(ArtifactService, "project_viewer", tenant, "key-02");
    return other.listArtifacts({ parent: tenant.parent }).then(
      () => undefined,
      (error: unknown) => error,
    );
  });
  expect(fault).toMatchObject({ reason: "TOKEN_EXPIRED" });
  await client.listArtifacts({ parent: tenant.parent });
});

import { fork } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { idToUuid } from "@fastgpu/domain/ids";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { quiet } from "@fastgpu/testkit/log";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { openChunkStore } from "../src/chunks/chunk-store.ts";
import { collect } from "../src/collect.ts";
import { collectBytes, faultOf, runStorage, storageWorld, uploadOf } from "./running-storage.ts";
import type { StorageWorld, Tenant } from "./running-storage.ts";

const MIB = 1 << 20;
const sha256 = (content: Uint8Array): string => createHash("sha256").update(content).digest("hex");

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
const worker = () => world.as(AttemptStorageService, "worker");

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

describe("an upload", () => {
  test("whose content is not what the header says stores nothing", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const uploadId = randomUUID();
    const header = { parent: tenant.parent, uploadId, sha256: sha256(randomBytes(1)) };
    const fault = await faultOf(client.uploadArtifact(uploadOf(randomBytes(2 * MIB), header)));
    expect(fault.reason).toBe("CHECKSUM_MISMATCH");
    expect((await client.listArtifacts({ parent: tenant.parent })).artifacts).toEqual([]);
    const gone = await faultOf(client.getUpload({ parent: tenant.parent, uploadId }));
    expect(gone.reason).toBe("NOT_FOUND");
  });

  test("that breaks off goes on where it stopped, and the file is whole", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = randomBytes(9 * MIB + 77);
    // No expected digest: that the stream broke must be noticed by itself.
    const header = { parent: tenant.parent, uploadId: randomUUID() };
    const breaking = new AbortController();
    const committed = async (): Promise<number> => {
      const known = await client
        .getUpload({ parent: tenant.parent, uploadId: header.uploadId })
        .catch(() => undefined);
      return Number(known?.committedBytes ?? 0);
    };
    const points = namedSignals();
    const broken = client.uploadArtifact(
      (async function* () {
        let sent = 0;
        for await (const message of uploadOf(content, header)) {
          yield message;
          sent += message.part.case === "data" ? message.part.value.length : 0;
          if (sent > 6 * MIB) await points.fired("never").catch(() => undefined);
        }
      })(),
      { signal: breaking.signal },
    );
    broken.catch(() => undefined);
    await eventually("some of it is durable", async () => (await committed()) > 0);
    breaking.abort();
    expect((await faultOf(broken)).reason).toBe("CANCELLED");
    const offset = await committed();
    expect(offset % MIB).toBe(0);
    const artifact = await client.uploadArtifact(uploadOf(content, { ...header, offset }));
    expect(artifact.sha256).toBe(sha256(content));
    const bytes = await collectBytes(client.downloadArtifact({ name: artifact.name }));
    expect(bytes.equals(content)).toBe(true);
  });

  test("repeated after a lost answer is the same artifact; with another header it is refused by field", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = randomBytes(2 * MIB);
    const header = { parent: tenant.parent, uploadId: randomUUID(), displayName: "one" };
    const first = await client.uploadArtifact(uploadOf(content, header));
    const again = await client.uploadArtifact(uploadOf(content, header));
    expect(again.name).toBe(first.name);
    const { artifacts } = await client.listArtifacts({ parent: tenant.parent });
    expect(artifacts.length).toBe(1);
    const other = await faultOf(
      client.uploadArtifact(uploadOf(content, { ...header, displayName: "two" })),
    );
    expect(other.reason).toBe("REQUEST_ID_REUSED");
    expect(other.violations[0]?.field).toBe("header.display_name");
    const upload = await client.getUpload({ parent: tenant.parent, uploadId: header.uploadId });
    expect(upload).toMatchObject({
      committedBytes: BigInt(content.length),
      artifact: { name: first.name },
    });
  });

  test("of two streams with one id the newer goes on and the older is fenced", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const content = randomBytes(12 * MIB);
    const header = { parent: tenant.parent, uploadId: randomUUID(), sha256: sha256(content) };
    const points = namedSignals();
    const older = client.uploadArtifact(
      (async function* () {
        let sent = 0;
        for await (const message of uploadOf(content, header)) {
          yield message;
          sent += message.part.case === "data" ? message.part.value.length : 0;
          if (sent > 6 * MIB) {
            points.fire("half");
            await points.fired("taken over");
          }
        }
      })(),
    );
    older.catch(() => undefined);
    await points.fired("half");
    const newer = await client.uploadArtifact(uploadOf(content, header));
    points.fire("taken over");
    expect((await faultOf(older)).reason).toBe("FENCED");
    const bytes = await collectBytes(client.downloadArtifact({ name: newer.name }));
    expect(bytes.equals(content)).toBe(true);
  });

  test("with a wrong offset, a late header, no header or too many bytes is refused by field", async () => {
    const tenant = world.newTenant();
    const client = editor(tenant);
    const { parent } = tenant;
    const cases: [AsyncIterable<object>, string][] = [
      [uploadOf(randomBytes(10), { parent, offset: 1 }), "header.offset"],
      [uploadOf(randomBytes(10), { parent, offset: MIB }), "header.offset"],
      [uploadOf(randomBytes(10), { parent, displayName: "" }), "header.display_name"],
      [uploadOf(randomBytes(10), { parent, displayName: "a\u0000b" }), "header.display_name"],
      [uploadOf(randomBytes(10), { parent, uploadId: "no uuid" }), "header.upload_id"],
      [uploadOf(randomBytes(10), { parent, sha256: "abc" }), "header.sha256"],
      [uploadOf(randomBytes(MIB + 1), { parent }, MIB + 1), "data"],
    ];
    for (const [messages, field] of cases) {
      const fault = await faultOf(client.uploadArtifact(messages));
      expect(fault.violations[0]?.field, field).toBe(field);
    }
    const twice = (async function* () {
      yield* uploadOf(randomBytes(10), { parent });
      yield* uploadOf(randomBytes(10), { parent });
    })();
    expect((await faultOf(client.uploadArtifact(twice))).reason).toBe("INVALID_FIELD");
    const large = await faultOf(
      client.uploadArtifact(uploadOf(Buffer.alloc(21 * MIB), { parent })),
    );
    expect(large.reason).toBe("LIMIT_EXCEEDED");
    expect((await client.listArtifacts({ parent })).artifacts).toEqual([]);
  });
});

describe("under pressure", () => {
  test("a silent stream is broken off and its slot given to others; a tenant gets half of the slots", async () => {
    await using own = await storageWorld({ maxUploads: 4, uploadSilenceMs: 2_000 });
    await using _running = await runStorage(own);
    const [a, b] = [own.newTenant(), own.newTenant()];
    const client = own.as(ArtifactService, "project_editor", a);
    const hanging = (): Promise<unknown> =>
      client.uploadArtifact(
        (async function* () {
          yield* uploadOf(randomBytes(10), { parent: a.parent });
          await new Promise((resolve) => setTimeout(resolve, 600_000).unref());
        })(),
      );
    const outcomes = await Promise.all(Array.from({ length: 3 }, () => faultOf(hanging())));
    expect(outcomes.map((fault) => fault.reason).toSorted()).toEqual([
      "DEADLINE_EXCEEDED",
      "DEADLINE_EXCEEDED",
      "RATE_LIMITED",
    ]);
    for (const tenant of [a, b]) {
      const other = own.as(ArtifactService, "project_editor", tenant);
      await other.uploadArtifact(uploadOf(randomBytes(10), { parent: tenant.parent }));
    }
  });

  test("a download holds its slot until its reader leaves, and no longer", async () => {
    await using own = await storageWorld({ maxDownloads: 2 });
    await using _running = await runStorage(own);
    const tenant = own.newTenant();
    const client = own.as(ArtifactService, "project_editor", tenant);
    const content = randomBytes(40 * MIB);
    const { name } = await client.uploadArtifact(uploadOf(content, { parent: tenant.parent }));
    const reader = client.downloadArtifact({ name })[Symbol.asyncIterator]();
    await reader.next();
    const refused = collectBytes(client.downloadArtifact({ name }));
    expect((await faultOf(refused)).reason).toBe("RATE_LIMITED");
    await reader.return?.();
    const bytes = await eventually("the slot is free again", () =>
      collectBytes(client.downloadArtifact({ name, offset: BigInt(39 * MIB) })).catch(
        () => undefined,
      ),
    );
    expect(bytes.equals(content.subarray(39 * MIB))).toBe(true);
  });
});

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
      expect.arrayContaining(["artifact_chunks", "artifacts", "data_keys", "manifests", "uploads"]),
    );
    for (const { name, secured } of tables) {
      expect(secured, name).toBe(true);
      const text = `SELECT count(*) AS n FROM ${name}`;
      const rows = await world.db.api.query<{ n: bigint }>({ name: `count_${name}`, text });
      expect(rows[0]?.n, name).toBe(0n);
    }
  });
});

describe("what attempts leave", () => {
  const store = (tenant: Tenant, content: Buffer, displayName: string) =>
    worker().storeArtifact(
      uploadOf(content, { parent: tenant.parent, displayName, attempt: "att-1" }),
    );

  test("a manifest has one digest whatever the order of its files, and is read by the tenant", async () => {
    const tenant = world.newTenant();
    const [model, log] = [randomBytes(70_000), Buffer.from("epoch 1\n")];
    const [a, b] = [await store(tenant, model, "model.bin"), await store(tenant, log, "log.txt")];
    expect(a.attempt).toBe("att-1");
    const files = [
      { path: "out/model.bin", sizeBytes: a.sizeBytes, sha256: a.sha256, artifact: a.name },
      { path: "log.txt", sizeBytes: b.sizeBytes, sha256: b.sha256, artifact: b.name },
    ];
    const request = { parent: tenant.parent, attempt: "att-1" };
    const first = await worker().putManifest({ ...request, files });
    const second = await worker().putManifest({ ...request, files: files.toReversed() });
    expect(second.digest).toBe(first.digest);
    const read = await editor(tenant).getManifest({ parent: tenant.parent, digest: first.digest });
    expect(read.files.map((file) => file.path)).toEqual(["log.txt", "out/model.bin"]);
    const fetched = await collectBytes(worker().fetchArtifact({ name: a.name, offset: 60_000n }));
    expect(fetched.equals(model.subarray(60_000))).toBe(true);
  });

  test("a manifest with a bad path, a foreign or unknown artifact, or another digest is refused", async () => {
    const [tenant, other] = [world.newTenant(), world.newTenant()];
    const content = randomBytes(10);
    const [a, foreign] = [await store(tenant, content, "a"), await store(other, content, "a")];
    const good = { path: "a", sizeBytes: 10n, sha256: a.sha256, artifact: a.name };
    const put = (files: object[]) =>
      faultOf(worker().putManifest({ parent: tenant.parent, attempt: "att-1", files }));
    const bad = ["/a", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "a\nb"];
    for (const path of bad) {
      expect((await put([{ ...good, path }])).violations[0]?.field, path).toBe("files[0].path");
    }
    expect((await put([good, good])).violations[0]?.field).toBe("files[1].path");
    expect((await put([{ ...good, artifact: foreign.name }])).reason).toBe("INVALID_FIELD");
    const disguised = `${tenant.parent}/artifacts/${foreign.name.split("/")[3]}`;
    expect((await put([{ ...good, artifact: disguised }])).reason).toBe("NOT_FOUND");
    expect((await put([{ ...good, sizeBytes: 11n }])).violations[0]?.field).toBe("files[0].sha256");
    const nowhere = worker().putManifest({ parent: "projects/nope", attempt: "a", files: [good] });
    expect((await faultOf(nowhere)).reason).toBe("NOT_FOUND");
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

describe("collecting", () => {
  const pass = async (uploadsBeforeMs: number) =>
    collect({
      core: world.db.core,
      store: await openChunkStore(world.config.directory),
      uploadsBeforeMs,
      filesBeforeMs: Number.MAX_SAFE_INTEGER,
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
    expect((await pass(0)).drafts).toBe(1);
  });
});

test("a client that is killed in the middle of an upload leaves no artifact", async () => {
  const tenant = world.newTenant();
  const uploadId = randomUUID();
  const script = fileURLToPath(new URL("./upload-process.ts", import.meta.url));
  const target = {
    address: "path" in world.config.listen ? `unix:${world.config.listen.path}` : "",
    token: await world.tokenOf("project_editor", tenant),
    parent: tenant.parent,
    uploadId,
  };
  const child = fork(script, [JSON.stringify(target)], { execArgv: [] });
  const client = editor(tenant);
  await eventually("some of it is durable", async () => {
    const known = await client
      .getUpload({ parent: tenant.parent, uploadId })
      .catch(() => undefined);
    return (known?.committedBytes ?? 0n) > 0n;
  });
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  const content = Buffer.alloc(5 * MIB, 1);
  const { committedBytes } = await client.getUpload({ parent: tenant.parent, uploadId });
  const whole = await client.uploadArtifact(
    uploadOf(content, { parent: tenant.parent, uploadId, offset: Number(committedBytes) }),
  );
  expect(whole.sha256).toBe(sha256(content));
  expect((await client.listArtifacts({ parent: tenant.parent })).artifacts.length).toBe(1);
});

test("each user's upload is one audit fact in the event log, a worker's is none", async () => {
  const tenant = world.newTenant();
  const artifact = await editor(tenant).uploadArtifact(
    uploadOf(Buffer.from("x"), { parent: tenant.parent }),
  );
  await worker().storeArtifact(
    uploadOf(Buffer.from("y"), { parent: tenant.parent, attempt: "att-1" }),
  );
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

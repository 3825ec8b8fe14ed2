import { fork } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
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
    if (child.exitCode !== null) throw new Error(`the client ended with ${child.exitCode}`);
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

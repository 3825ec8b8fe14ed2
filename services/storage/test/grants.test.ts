import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { ArtifactId } from "@fastgpu/domain/ids";
import { memberName } from "@fastgpu/domain/member-name";
import { generateServiceKeys } from "@fastgpu/rpc/tokens";
import { anId } from "@fastgpu/testkit/factories";
import { hold, withGrant, type Held } from "./held.ts";
import { collectBytes, faultOf, runStorage, storageWorld, uploadOf } from "./running-storage.ts";
import type { StorageWorld, Tenant } from "./running-storage.ts";

let world: StorageWorld;
let running: AsyncDisposable;
beforeAll(async () => {
  world = await storageWorld();
  running = await runStorage(world);
});
afterAll(async () => {
  await running[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

/** Why a call was refused. */
async function refusal(call: Promise<unknown>): Promise<string | undefined> {
  const { reason, code, metadata, hint } = (await faultOf(call)) as Awaited<
    ReturnType<typeof faultOf>
  > & { hint?: string };
  expect([reason, code]).toEqual(["PERMISSION_DENIED", "PERMISSION_DENIED"]);
  expect(hint).toBeTruthy();
  return metadata["grant"];
}

/** Stores a file as the attempt, or as another. */
const store = (held: Pick<Held, "client" | "attempt">, { parent }: Tenant, displayName = "file") =>
  held.client.storeArtifact(
    uploadOf(randomBytes(100), { parent, displayName, attempt: held.attempt }),
  );

interface Listed {
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes: bigint;
}

const filesOf = ({ name, sha256, sizeBytes }: Listed) => [
  { path: "file", artifact: name, sha256, sizeBytes },
];

/** What an attempt leaves as its checkpoint; answers the file and the manifest's digest. */
async function leaveCheckpoint(held: Held, tenant: Tenant, epoch: number, member = 0) {
  const file = await store(held, tenant, "checkpoint/file");
  const { digest } = await held.client.putManifest({
    ...{ parent: tenant.parent, attempt: held.attempt, files: filesOf(file) },
    checkpoint: { task: held.task, member, epoch: BigInt(epoch) },
  });
  return { file, digest };
}

const idOf = ({ name }: { readonly name: string }) => name.split("/")[3] as ArtifactId;

async function artifactsOf(tenant: Tenant): Promise<string[]> {
  const viewer = world.as(ArtifactService, "project_viewer", tenant);
  return (await viewer.listArtifacts({ parent: tenant.parent })).artifacts.map(({ name }) => name);
}

describe("a worker that holds an attempt of one project", () => {
  test("reads and stores nothing of another, by name or by disguise", async () => {
    const [a, b] = [world.newTenant(), world.newTenant()];
    const owner = await hold(world, b);
    const { file, digest } = await leaveCheckpoint(owner, b, 1);
    const before = await artifactsOf(b);
    // As if the scheduler had been talked into a task that names what is not the tenant's.
    const thief = await hold(world, a, { task: owner.task, inputs: [idOf(file)] });
    const { client, attempt } = thief;
    const put = { parent: b.parent, attempt, files: filesOf(file) };
    const foreign = [
      () => store(thief, b),
      () => store({ client, attempt: owner.attempt }, b),
      () => client.putManifest(put),
      () => client.putManifest({ ...put, attempt: owner.attempt }),
      () => client.fetchManifest({ parent: b.parent, digest }),
      () => collectBytes(client.fetchArtifact({ name: file.name })),
    ];
    for (const call of foreign) expect(await refusal(call())).toBe("foreign");
    const disguised = `${a.parent}/artifacts/${idOf(file)}`;
    const hidden = [
      () => client.fetchManifest({ parent: a.parent, digest }),
      () => collectBytes(client.fetchArtifact({ name: disguised })),
      () =>
        client.putManifest({
          ...{ parent: a.parent, attempt },
          files: filesOf({ ...file, name: disguised }),
        }),
    ];
    for (const call of hidden) expect((await faultOf(call())).reason).toBe("NOT_FOUND");
    for (const parent of ["projects/nope", `projects/${anId("proj")}`, `${a.parent}x`]) {
      expect(await refusal(client.fetchManifest({ parent, digest }))).toBe("foreign");
    }
    expect(await artifactsOf(b)).toEqual(before);
    expect(await artifactsOf(a)).toEqual([]);
  });

  test("stores as that attempt only, and lists what it has stored itself", async () => {
    const tenant = world.newTenant();
    const { parent } = tenant;
    const [mine, other] = [await hold(world, tenant), await hold(world, tenant)];
    const theirs = await store(other, tenant);
    const own = await store(mine, tenant);
    const { client, attempt, task } = mine;
    expect(await refusal(store({ client, attempt: other.attempt }, tenant))).toBe("foreign");
    expect(await refusal(store({ client, attempt: "" }, tenant))).toBe("foreign");
    const put = (more: object) =>
      client.putManifest({ parent, attempt, files: filesOf(own), ...more });
    expect(await refusal(put({ attempt: other.attempt }))).toBe("foreign");
    const checkpoint = { task, member: 0, epoch: 1n };
    const others = [{ task: other.task }, { task: "task-1" }, { member: 1 }, { epoch: 2n }];
    for (const over of others) {
      expect(await refusal(put({ checkpoint: { ...checkpoint, ...over } }))).toBe("foreign");
    }
    // What another attempt has stored can be known by name, size and digest, and is still not its own.
    expect((await faultOf(put({ files: filesOf(theirs) }))).reason).toBe("NOT_FOUND");
    expect((await put({ checkpoint })).digest).not.toBe("");
  });

  test("reads the inputs of its task and what its task and member have left, nothing else of the project", async () => {
    const tenant = world.newTenant();
    const { parent } = tenant;
    const task = anId("task");
    const upload = () =>
      world
        .as(ArtifactService, "project_editor", tenant)
        .uploadArtifact(uploadOf(randomBytes(10), { parent }));
    const [input, private_] = [await upload(), await upload()];
    const first = await leaveCheckpoint(await hold(world, tenant, { task }), tenant, 1);
    const attempt = memberName({ attempt: anId("att"), member: 1 });
    const rank1 = await hold(world, tenant, { task, attempt });
    const ofRank1 = await leaveCheckpoint(rank1, tenant, 1, 1);
    const ofOther = await leaveCheckpoint(await hold(world, tenant), tenant, 1);
    const { client } = await hold(world, tenant, { task, epoch: 2, inputs: [idOf(input)] });
    const read = ({ name }: { name: string }) => collectBytes(client.fetchArtifact({ name }));
    expect((await read(input)).length).toBe(10);
    expect((await read(first.file)).length).toBe(100);
    expect((await client.fetchManifest({ parent, digest: first.digest })).files.length).toBe(1);
    for (const file of [private_, ofRank1.file, ofOther.file]) {
      expect(await refusal(read(file))).toBe("foreign");
    }
    for (const { digest } of [ofRank1, ofOther]) {
      expect((await faultOf(client.fetchManifest({ parent, digest }))).reason).toBe("NOT_FOUND");
    }
  });
});

describe("a grant", () => {
  test("ends, and belongs to one worker and to the scheduler that signed it", async () => {
    const tenant = world.newTenant();
    const held = await hold(world, tenant);
    await store(held, tenant, "in time");
    const stolen = await hold(world, tenant, { node: anId("node") });
    expect(await refusal(store(stolen, tenant))).toBe("foreign");
    const { privateKeyPem: signedWith } = generateServiceKeys();
    expect(await refusal(store(await hold(world, tenant, { signedWith }), tenant))).toBe("invalid");
    const none = world.as(AttemptStorageService, "worker");
    const { attempt } = held;
    expect(await refusal(store({ client: none, attempt }, tenant))).toBe("missing");
    const empty = { client: withGrant(world, ""), attempt };
    expect(await refusal(store(empty, tenant))).toBe("invalid");
    world.clock.advance(66_000);
    const { parent } = tenant;
    const calls = [
      () => store(held, tenant, "late"),
      () =>
        held.client.putManifest({
          parent,
          attempt,
          files: filesOf({ name: "a", sha256: "0".repeat(64), sizeBytes: 1n }),
        }),
      () => held.client.fetchManifest({ parent, digest: "0".repeat(64) }),
      () => collectBytes(held.client.fetchArtifact({ name: `${parent}/artifacts/${anId("art")}` })),
    ];
    for (const call of calls) expect(await refusal(call())).toBe("expired");
  });

  test("of a worker is no help to who is none", async () => {
    const tenant = world.newTenant();
    const held = await hold(world, tenant);
    const user = world.as(AttemptStorageService, "org_admin", tenant);
    const headers = { "x-storage-grant": held.token };
    const upload = uploadOf(randomBytes(1), { parent: tenant.parent, attempt: held.attempt });
    const fault = await faultOf(user.storeArtifact(upload, { headers }));
    expect(fault).toMatchObject({ reason: "PERMISSION_DENIED" });
    expect(fault.metadata["permission"]).toBe("artifacts.store");
  });
});

test("where grants are not required a call without one is served as before, and one with a grant is held to it", async () => {
  await using old = await storageWorld({ requireGrants: false });
  await using _service = await runStorage(old);
  const [a, b] = [old.newTenant(), old.newTenant()];
  const attempt = anId("att");
  const client = old.as(AttemptStorageService, "worker");
  const file = await client.storeArtifact(uploadOf(randomBytes(5), { parent: a.parent, attempt }));
  const put = (task: string) =>
    client.putManifest({
      ...{ parent: a.parent, attempt, files: filesOf(file) },
      checkpoint: { task, member: 0, epoch: 1n },
    });
  expect((await faultOf(put("att-1"))).violations[0]?.field).toBe("checkpoint.task");
  const { digest } = await put(anId("task"));
  expect((await client.fetchManifest({ parent: a.parent, digest })).files.length).toBe(1);
  expect((await collectBytes(client.fetchArtifact({ name: file.name }))).length).toBe(5);
  const nowhere = client.fetchManifest({ parent: `projects/${anId("proj")}`, digest });
  expect((await faultOf(nowhere)).reason).toBe("NOT_FOUND");
  const held = await hold(old, b);
  expect(await refusal(store({ ...held, attempt }, a))).toBe("foreign");
});

test("without the scheduler's key the service does not start, and says which setting is missing", async () => {
  await using keyless = await storageWorld({ serviceKeys: {} });
  const fault = (await faultOf(runStorage(keyless))) as { hint?: string };
  expect(fault.hint).toContain("storage.serviceKeys.scheduler");
});

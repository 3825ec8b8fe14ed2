import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { TaskId } from "@fastgpu/domain/ids";
import { memberName } from "@fastgpu/domain/member-name";
import { newEvent, topics } from "@fastgpu/events/topics";
import { transaction } from "@fastgpu/postgres/transaction";
import { anId } from "@fastgpu/testkit/factories";
import { openChunkStore } from "../src/chunks/chunk-store.ts";
import { collect } from "../src/collect.ts";
import { onTaskStateChanged } from "../src/on/task-state-changed.ts";
import { hold } from "./held.ts";
import { collectBytes, faultOf, runStorage, storageWorld, uploadOf } from "./running-storage.ts";
import type { StorageWorld, Tenant } from "./running-storage.ts";

const dayMs = 24 * 3_600_000;

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

/** What an attempt of this epoch leaves: one file of its own; answers the manifest's digest and the file's name. */
async function leave(
  tenant: Tenant,
  of: { task: TaskId; epoch: number; member?: number; resumedDigest?: string },
) {
  const { parent } = tenant;
  const { task, epoch, member = 0 } = of;
  const attempt = memberName({ attempt: anId("att"), member });
  const { client } = await hold(world, tenant, { task, epoch, attempt });
  const content = randomBytes(1_000);
  const path = "model.bin";
  const upload = uploadOf(content, { parent, attempt, displayName: path });
  const { name: artifact, sha256, sizeBytes } = await client.storeArtifact(upload);
  expect(sha256).toBe(createHash("sha256").update(content).digest("hex"));
  const { digest } = await client.putManifest({
    ...{ parent, attempt, files: [{ path, sizeBytes, sha256, artifact }] },
    checkpoint: { ...of, epoch: BigInt(of.epoch) },
  });
  return { digest, artifact, content };
}

const collectNow = async () =>
  collect({
    core: world.db.core,
    store: await openChunkStore(world.config.directory),
    ...{ uploadsBeforeMs: 0, draftsBeforeMs: 0, chunksBeforeMs: Number.MAX_SAFE_INTEGER },
    nowMs: world.clock.nowMs(),
    stop: new AbortController().signal,
  });

const isThere = (tenant: Tenant, digest: string): Promise<boolean> =>
  world
    .as(ArtifactService, "project_viewer", tenant)
    .getManifest({ parent: tenant.parent, digest })
    .then(
      () => true,
      (error: { reason: string }) => {
        expect(error.reason).toBe("NOT_FOUND");
        return false;
      },
    );

async function taskBecomes(tenant: Tenant, task: TaskId, to: TaskState): Promise<void> {
  const { org, project } = tenant;
  const facts = { aggregate: task, aggregateRevision: 1n, occurredMs: 1, org, project };
  const event = newEvent(topics.taskStateChanged, { task, from: TaskState.QUEUED, to }, facts);
  const stored = { ...event, seq: 1n };
  await transaction(world.db.core, (tx) => onTaskStateChanged(world).apply(tx, [stored]));
}

test("the newest checkpoint and the one that it resumed from stay, for each member of a gang; earlier ones go with their files", async () => {
  const tenant = world.newTenant();
  const task = anId("task");
  const first = await leave(tenant, { task, epoch: 1 });
  const other = await leave(tenant, { task, epoch: 1, member: 1 });
  // Epoch 2 resumed from the first; its end was lost, so epoch 3 resumed from the first again.
  const lost = await leave(tenant, { task, epoch: 2, resumedDigest: first.digest });
  const third = await leave(tenant, { task, epoch: 3, resumedDigest: first.digest });
  expect(await collectNow()).toMatchObject({ checkpoints: 1, chunks: 1 });
  expect(await isThere(tenant, lost.digest)).toBe(false);
  const { client: next } = await hold(world, tenant, { task, epoch: 4 });
  const missing = collectBytes(next.fetchArtifact({ name: lost.artifact }));
  expect((await faultOf(missing)).metadata["grant"]).toBe("foreign");
  const rank1 = memberName({ attempt: anId("att"), member: 1 });
  const { client: nextOfOther } = await hold(world, tenant, { task, epoch: 4, attempt: rank1 });
  for (const { digest, artifact, content } of [first, other, third]) {
    const client = digest === other.digest ? nextOfOther : next;
    const { files } = await client.fetchManifest({ parent: tenant.parent, digest });
    expect(files).toMatchObject([{ path: "model.bin", artifact }]);
    const bytes = await collectBytes(client.fetchArtifact({ name: artifact }));
    expect(bytes.equals(content)).toBe(true);
  }
  // A worker that lost its lease long ago and comes late takes nothing from the newer ones.
  await leave(tenant, { task, epoch: 2, resumedDigest: first.digest });
  await collectNow();
  expect(await isThere(tenant, third.digest)).toBe(true);
  await leave(tenant, { task, epoch: 4, resumedDigest: third.digest });
  await collectNow();
  expect(await isThere(tenant, first.digest)).toBe(false);
  expect(await isThere(tenant, third.digest)).toBe(true);
  expect(await isThere(tenant, other.digest)).toBe(true);
});

test("with its task a checkpoint goes: at once after a success or a cancel, a week after a failure, never while it waits", async () => {
  const tenant = world.newTenant();
  const ends = [
    [TaskState.SUCCEEDED, 0],
    [TaskState.CANCELLED, 0],
    [TaskState.FAILED, 7 * dayMs],
  ] as const;
  for (const [state, keptMs] of ends) {
    const task = anId("task");
    const { digest } = await leave(tenant, { task, epoch: 1 });
    await taskBecomes(tenant, task, TaskState.QUEUED);
    world.clock.advance(30 * dayMs);
    await collectNow();
    expect(await isThere(tenant, digest)).toBe(true);
    await taskBecomes(tenant, task, state);
    world.clock.advance(Math.max(0, keptMs - 1));
    if (keptMs > 0) {
      await collectNow();
      expect(await isThere(tenant, digest)).toBe(true);
    }
    world.clock.advance(1);
    await collectNow();
    expect(await isThere(tenant, digest)).toBe(false);
  }
});

test("another project's task of the same id, its files and results are left alone", async () => {
  const [a, b] = [world.newTenant(), world.newTenant()];
  const task = anId("task");
  const mine = await leave(a, { task, epoch: 1 });
  const theirs = await leave(b, { task, epoch: 1 });
  const own = uploadOf(randomBytes(500), { parent: a.parent });
  const upload = await world.as(ArtifactService, "project_editor", a).uploadArtifact(own);
  await leave(b, { task, epoch: 2 });
  await taskBecomes(b, task, TaskState.SUCCEEDED);
  await collectNow();
  expect(await isThere(a, mine.digest)).toBe(true);
  expect(await isThere(b, theirs.digest)).toBe(false);
  const viewer = world.as(ArtifactService, "project_viewer", a);
  expect((await viewer.getArtifact({ name: upload.name })).name).toBe(upload.name);
});

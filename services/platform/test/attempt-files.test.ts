import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { type Task, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { type Lease, LeaseSchema } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import { eventually } from "@fastgpu/testkit/signals";
import { openIdentity } from "@fastgpu/worker/identity/identity";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  endOf,
  script,
  shortLeases,
  stateName,
  testPlatform,
  withSpec,
  type TestPlatform,
} from "./harness.ts";

// Real workers, whose attempts' files go through storage under the grants that the scheduler signs.

let p: TestPlatform;
let inputs: { artifact: string; path: string }[];
beforeAll(async () => {
  // A grant lives for twice as long as a lease at least.
  const leases = { ...shortLeases, FASTGPU_SCHEDULER__LEASE_TTL_MS: "15000" };
  p = await testPlatform({ env: { ...leases, FASTGPU_SCHEDULER__STORAGE_GRANT_TTL_MS: "1000" } });
  await mkdir(join(p.directory, "effects"), { mode: 0o777 });
  const channel = createChannel({ address: p.platform.address, token: async () => p.key });
  const header = { parent: p.parent, displayName: "in", uploadId: randomUUID(), offset: 0n };
  const { name } = await createClient(ArtifactService, channel).uploadArtifact(
    (async function* () {
      yield { part: { case: "header" as const, value: header } };
      yield { part: { case: "data" as const, value: Buffer.from("given\n") } };
    })(),
  );
  channel.close();
  inputs = [{ artifact: name, path: "deep/in.txt" }];
}, 120_000);
afterAll(() => p[Symbol.asyncDispose]());

const reading = 'cat "$FASTGPU_INPUT_DIR/deep/in.txt" | tee "$FASTGPU_OUTPUT_DIR/out.txt"; ';

async function run(task: Task): Promise<string> {
  return (await p.tasks.runTask({ parent: p.parent, task: withSpec(task, { inputs }) })).name;
}

async function logText(name: string): Promise<string> {
  let text = "";
  for await (const { records } of p.tasks.readLogs({ name })) {
    text += records.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  return text;
}

test("a task, every member of a gang and every element of an array read their input and keep what they make", async () => {
  const plain = script(reading);
  const gang = withSpec(script(reading, { gpus: 1 }), { replicas: 2 });
  const array = script('cat "$FASTGPU_INPUT_DIR/deep/in.txt"', { array: 5 });
  const names = [await run(plain), await run(gang), await run(array)];
  const ends = [];
  for (const name of names) ends.push(await endOf(p, name));
  expect(ends.map(stateName)).toEqual(ends.map(() => "TASK_STATE_SUCCEEDED"));
  expect(ends[0]?.result?.files).toMatchObject([{ path: "out.txt", sizeBytes: 6n }]);
  const texts = [];
  for (const name of names) texts.push(await logText(name));
  expect(texts).toEqual(["given\n", "given\n".repeat(2), "given\n".repeat(5)]);
}, 120_000);

/** What the worker has on disk of the lease of a task's attempt. */
async function leaseOnDisk(attempt: string): Promise<Lease> {
  const path = join(p.platform.dataDir, "worker-1", "private", "records", `${attempt}.json`);
  const { lease } = JSON.parse(await readFile(path, "utf8")) as { lease: string };
  return fromBinary(LeaseSchema, Buffer.from(lease, "base64"));
}

/** Resolves once storage refuses the grant that this lease came with. */
async function grantHasEnded(lease: Lease): Promise<void> {
  const socket = (service: string) => `unix:${join(p.platform.dataDir, "run", `${service}.sock`)}`;
  const auth = createChannel({ address: socket("auth") });
  const path = join(p.platform.dataDir, "worker-1", "private", "identity.json");
  const stop = new AbortController().signal;
  const identity = await openIdentity({
    ...{ path, channel: auth, joinToken: undefined, displayName: "", stop },
  });
  const channel = createChannel({ address: socket("storage"), token: () => identity.token() });
  const headers = { [storageGrantHeader]: lease.storageGrant };
  const request = { parent: p.parent, digest: "0".repeat(64) };
  await eventually(
    "the lease's grant has ended",
    () =>
      createClient(AttemptStorageService, channel)
        .fetchManifest(request, { headers })
        .then(
          () => false,
          ({ metadata }: { metadata: Record<string, string> }) => metadata["grant"] === "expired",
        ),
    120_000,
  );
  for (const each of [channel, auth]) each.close();
}

test("a task that outlives its lease's grant and a restart of everything keeps its outputs and its log", async () => {
  const go = join(p.directory, "effects", "go");
  const name = await run(script(`${reading} until [ -e ${go} ]; do sleep 0.1; done; echo gone on`));
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 60_000 })) {
    if (task?.state === TaskState.RUNNING) break;
  }
  const { attempts } = await p.tasks.listAttempts({ parent: name });
  const lease = await leaseOnDisk(attempts[0]?.name.split("/").at(-1) ?? "");
  await p.restart();
  await grantHasEnded(lease);
  await writeFile(go, "");
  const end = await endOf(p, name, 120_000);
  expect(stateName(end), end.statusMessage).toBe("TASK_STATE_SUCCEEDED");
  expect(end.result?.files).toMatchObject([{ path: "out.txt" }]);
  const text = await logText(name);
  expect(text.startsWith("given\n"), text).toBe(true);
  expect(text.endsWith("gone on\n"), text).toBe(true);
}, 300_000);

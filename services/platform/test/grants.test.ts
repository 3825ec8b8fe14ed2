import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ApiKeyService,
  OrganizationService,
  ProjectService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { ExitClass } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { newId, parseId } from "@fastgpu/domain/ids";
import { parseMemberName } from "@fastgpu/domain/member-name";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createGrantSigner, storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import { eventually } from "@fastgpu/testkit/signals";
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
import { playWorker, type ListedFile, type PlayedWorker } from "./played-worker.ts";

// A worker that turned against its platform: it has its own key and token, real leases, and every address. What it tries
// goes to the real scheduler and the real storage.

let p: TestPlatform;
let worker: PlayedWorker;
let other: Awaited<ReturnType<typeof otherTenant>>;
beforeAll(async () => {
  const env = {
    ...shortLeases,
    FASTGPU_SCHEDULER__LEASE_TTL_MS: "15000",
    // Renewed after half of twice a lease's time; as short as the scheduler lets it be.
    FASTGPU_SCHEDULER__STORAGE_GRANT_TTL_MS: "1000",
  };
  p = await testPlatform({ workers: 0, env });
  worker = await playWorker(p, "turned");
  await worker.connect();
  other = await otherTenant();
}, 120_000);
afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  await p[Symbol.asyncDispose]();
});

const channelOf = (key: string) =>
  createChannel({ address: p.platform.address, token: () => Promise.resolve(key) });

/** Another organisation with a project and a file of its own. */
async function otherTenant() {
  const mine = channelOf(p.key);
  const organization = { displayName: "other" };
  const { name: org } = await createClient(OrganizationService, mine).createOrganization({
    organization,
  });
  const apiKey = { displayName: "admin", role: "org_admin" };
  const keys = createClient(ApiKeyService, mine);
  const { secret } = await keys.createApiKey({ parent: org, apiKey });
  mine.close();
  const theirs = channelOf(secret);
  const projects = createClient(ProjectService, theirs);
  const { name: parent } = await projects.createProject({
    parent: org,
    project: { displayName: "p" },
  });
  const { name: artifact } = await upload(theirs, parent, "a secret");
  theirs.close();
  const [, orgId = ""] = org.split("/");
  return { org: orgId, parent, artifact };
}

function upload(channel: ReturnType<typeof channelOf>, parent: string, text: string) {
  const header = { parent, displayName: "in.txt", uploadId: randomUUID(), offset: 0n };
  return createClient(ArtifactService, channel).uploadArtifact(
    (async function* () {
      yield { part: { case: "header" as const, value: header } };
      yield { part: { case: "data" as const, value: Buffer.from(text) } };
    })(),
  );
}

async function ownInput(text: string): Promise<string> {
  const channel = channelOf(p.key);
  const { name } = await upload(channel, p.parent, text);
  channel.close();
  return name;
}

/** Why storage refuses a call of the worker. */
async function refusal(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "served",
    ({ reason, metadata }: { reason: string; metadata: Record<string, string> }) =>
      reason === "PERMISSION_DENIED" ? (metadata["grant"] ?? reason) : reason,
  );
}

async function read(pieces: AsyncIterable<{ data: Uint8Array }>): Promise<string> {
  let text = "";
  for await (const { data } of pieces) text += Buffer.from(data).toString();
  return text;
}

async function run(task: ReturnType<typeof script>): Promise<string> {
  return (await p.tasks.runTask({ parent: p.parent, task })).name;
}

const started = [
  { case: "starting", value: {} },
  { case: "running", value: {} },
] as const;

/** Ends an attempt well, with these files as its outputs. */
async function succeed(lease: Lease, files: readonly ListedFile[]): Promise<void> {
  const { attempt } = lease;
  const request = { parent: p.parent, attempt, files: [...files] };
  const { digest } = await worker.storage.putManifest(request, worker.granted(attempt));
  const elements =
    lease.elements.length === 0 ? [] : [{ exitClass: ExitClass.OK, ranges: lease.elements }];
  await worker.report(
    lease,
    ...started,
    { case: "finalizing", value: {} },
    {
      case: "ended",
      value: { exitClass: ExitClass.OK, exitCode: 0, manifestDigest: digest, elements },
    },
  );
}

const store = (lease: Lease, path = "file") =>
  worker.store({ parent: p.parent, attempt: lease.attempt, path }, worker.granted(lease.attempt));

test("without a lease a worker's own key and token open nothing", async () => {
  const [, project = ""] = other.parent.split("/");
  const attempt = newId("att", Date.now(), new Uint8Array(10));
  const stored = join(p.directory, "turned.json");
  const { privateKeyPem } = JSON.parse(readFileSync(stored, "utf8")) as { privateKeyPem: string };
  const nowMs = Date.now();
  const ids = {
    node: parseId("node", worker.node)!,
    org: parseId("org", other.org)!,
    project: parseId("proj", project)!,
    task: newId("task", nowMs, new Uint8Array(10)),
  };
  const own = await createGrantSigner(privateKeyPem).sign(
    { ...ids, attempt, epoch: 1, inputs: [] },
    { nowMs, expiresAtMs: nowMs + 60_000 },
  );
  const tries = { own, token: await worker.token(), empty: "", junk: "a.b.c" };
  for (const [what, grant] of Object.entries(tries)) {
    const options = { headers: { [storageGrantHeader]: grant } };
    const call = worker.store({ parent: other.parent, attempt }, options);
    expect(await refusal(call), what).toBe("invalid");
  }
  expect(await refusal(worker.store({ parent: other.parent, attempt }, {}))).toBe("missing");
  expect(await refusal(read(worker.storage.fetchArtifact({ name: other.artifact })))).toBe(
    "missing",
  );
});

test("with a lease of one project it reads and stores in no other, and reports nothing that would make the platform do so", async () => {
  const name = await run(script("true"));
  const lease = await worker.leaseOf(name);
  const { attempt } = lease;
  const options = worker.granted(attempt);
  const mine = await store(lease);
  const [, , , secret = ""] = other.artifact.split("/");
  const disguised = `${p.parent}/artifacts/${secret}`;
  const put = { parent: other.parent, attempt, files: [mine] };
  const calls = [
    worker.store({ parent: other.parent, attempt }, options),
    worker.storage.putManifest(put, options),
    worker.storage.fetchManifest({ parent: other.parent, digest: "0".repeat(64) }, options),
    read(worker.storage.fetchArtifact({ name: other.artifact }, options)),
    read(worker.storage.fetchArtifact({ name: disguised }, options)),
    worker.store({ parent: p.parent, attempt: `${attempt}-1` }, options),
  ];
  const refused = await Promise.all(calls.map((call) => refusal(call)));
  expect(refused).toEqual(calls.map(() => "foreign"));
  const listed = { ...mine, artifact: disguised };
  const lies = worker.storage.putManifest({ parent: p.parent, attempt, files: [listed] }, options);
  expect(await refusal(lies)).toBe("NOT_FOUND");

  await using accomplice = await playWorker(p, "accomplice");
  const stolen = accomplice.store({ parent: p.parent, attempt }, options);
  expect(await refusal(stolen)).toBe("foreign");

  // What it tells of its own attempt's log and checkpoint is not taken for its project's.
  await worker.report(
    lease,
    ...started,
    { case: "finalizing", value: {} },
    {
      case: "ended",
      value: { exitClass: ExitClass.OK, logArtifact: other.artifact },
    },
  );
  expect(stateName(await endOf(p, name))).toBe("TASK_STATE_SUCCEEDED");
  const logs = (async () => {
    let text = "";
    for await (const { records } of p.tasks.readLogs({ name })) {
      text += records.map(({ data }) => Buffer.from(data).toString()).join("");
    }
    return text;
  })();
  await expect(logs).rejects.toMatchObject({ reason: "NOT_FOUND" });
  const input = { artifact: other.artifact, path: "in" };
  const asInput = run(withSpec(script("true"), { inputs: [input] }));
  await expect(asInput).rejects.toMatchObject({ reason: "INVALID_FIELD" });
}, 120_000);

test("a checkpoint goes to the next attempt of its task and member, and a digest that was only reported to none", async () => {
  const retry = { maxRetries: 5, retryOn: [ExitClass.USER_EXIT] };
  const failing = withSpec(script("false"), { retry });
  const [one, two] = [await run(failing), await run(failing)];
  const [first, thief] = [await worker.leaseOf(one), await worker.leaseOf(two)];
  const file = await store(first, "model");
  const checkpoint = { task: first.task, member: 0, epoch: first.epoch };
  const put = { parent: p.parent, attempt: first.attempt, files: [file] };
  const { digest } = await worker.storage.putManifest(
    { ...put, checkpoint },
    worker.granted(first.attempt),
  );
  const fail = {
    case: "ended",
    value: { exitClass: ExitClass.USER_EXIT, exitCode: 1, checkpointDigest: digest },
  } as const;
  for (const lease of [first, thief])
    await worker.report(lease, ...started, { case: "finalizing", value: {} }, fail);
  const next = await worker.leaseOf(one, 1);
  expect(next.checkpoint?.manifestDigest).toBe(digest);
  const options = worker.granted(next.attempt);
  const { files } = await worker.storage.fetchManifest({ parent: p.parent, digest }, options);
  expect(files).toMatchObject([file]);
  const name = file.artifact ?? "";
  expect((await read(worker.storage.fetchArtifact({ name }, options))).length).toBeGreaterThan(0);
  const liar = await worker.leaseOf(two, 1);
  expect(liar.checkpoint?.manifestDigest).toBe(digest);
  const lying = worker.granted(liar.attempt);
  expect(await refusal(worker.storage.fetchManifest({ parent: p.parent, digest }, lying))).toBe(
    "NOT_FOUND",
  );
  expect(await refusal(read(worker.storage.fetchArtifact({ name }, lying)))).toBe("foreign");
  for (const task of [one, two]) await p.tasks.cancelTask({ name: task });
}, 120_000);

test("a gang's members, a range of an array and a task with inputs store as themselves, each with its own grant", async () => {
  const artifact = await ownInput("of the project");
  const inputs = [{ artifact, path: "in.txt" }];
  const gang = await run(withSpec(script("true"), { replicas: 2, inputs }));
  const [rank0, rank1] = [await worker.leaseOf(gang), await worker.leaseOf(gang, 0, 1)];
  expect(parseMemberName(rank1.attempt)).toMatchObject({ member: 1 });
  const asOther = worker.store(
    { parent: p.parent, attempt: rank0.attempt },
    worker.granted(rank1.attempt),
  );
  expect(await refusal(asOther)).toBe("foreign");
  for (const lease of [rank0, rank1]) {
    const options = worker.granted(lease.attempt);
    expect(await read(worker.storage.fetchArtifact({ name: artifact }, options))).toBe(
      "of the project",
    );
    await succeed(lease, [await store(lease)]);
  }
  const array = await run(script("true", { array: 20 }));
  for (let number = 0, ended = 0; ended < 20; number += 1) {
    const range = await worker.leaseOf(array, number);
    await succeed(range, [await store(range)]);
    for (const { first, last } of range.elements) ended += last - first + 1;
  }
  for (const name of [gang, array]) {
    expect(stateName(await endOf(p, name))).toBe("TASK_STATE_SUCCEEDED");
  }
}, 120_000);

test("a long attempt's grant is renewed, a new session brings one at once, and after the end none comes and the last one ends", async () => {
  const inputs = [{ artifact: await ownInput("in"), path: "in.txt" }];
  const name = await run(withSpec(script("true"), { inputs }));
  const lease = await worker.leaseOf(name);
  const { attempt } = lease;
  await worker.report(lease, ...started);
  const count = (): number => worker.grants.get(attempt)?.length ?? 0;
  const ofFirst = count();
  await worker.connect();
  await eventually("the new session brings a grant", () => count() > ofFirst);
  const ofSecond = count();
  await eventually("the grant is renewed", () => count() > ofSecond, 120_000);
  const asked = { name: inputs[0]?.artifact ?? "" };
  // It runs: its inputs have been read.
  const reads = read(worker.storage.fetchArtifact(asked, worker.granted(attempt)));
  expect(await refusal(reads)).toBe("foreign");
  const ofLease = { headers: { [storageGrantHeader]: lease.storageGrant } };
  await eventually(
    "the lease's grant has ended",
    async () => (await refusal(worker.store({ parent: p.parent, attempt }, ofLease))) === "expired",
    120_000,
  );
  const file = await store(lease);
  await succeed(lease, [file]);
  expect(stateName(await endOf(p, name))).toBe("TASK_STATE_SUCCEEDED");
  // No other comes: there would always be one that is good.
  await eventually(
    "the last grant has ended",
    async () => (await refusal(store(lease, "late"))) === "expired",
    120_000,
  );
}, 400_000);

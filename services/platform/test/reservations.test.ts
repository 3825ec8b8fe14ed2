import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { ReservationChange } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import {
  ReservationSchema,
  ReservationState,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import {
  QueueReason,
  TaskState,
  TopologyLevel,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { openAuditor } from "@fastgpu/auditor/audit";
import { payloadOf, topics } from "@fastgpu/events/topics";
import { statement } from "@fastgpu/postgres/pool";
import { quiet } from "@fastgpu/testkit/log";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { replayRecordings } from "../src/replay.ts";
import { startKillable } from "./composed-child.ts";
import {
  endOf,
  script,
  testPlatform,
  withSpec,
  type Clients,
  type TestPlatform,
} from "./harness.ts";
import { clientsOf, type AllClients } from "./clients.ts";
import { type } from "./typed-command.ts";

const minute = 60_000;

/** A platform under these tests, wherever it runs. */
interface Fleet extends Clients {
  readonly platform: { readonly address: string; readonly org: string };
}

const orgOf = (p: Fleet): string => `organizations/${p.platform.org}`;

async function newProject(p: Fleet, parent = orgOf(p)): Promise<string> {
  using clients = clientsOf(p);
  const project = { displayName: "another" };
  return (await clients.projects.createProject({ parent, project })).name;
}

async function keyFor(p: Fleet, of: { role: string; project?: string; org?: string }) {
  using clients = clientsOf(p);
  const { role, project = "", org = orgOf(p) } = of;
  const apiKey = { displayName: role, role, project };
  return (await clients.keys.createApiKey({ parent: org, apiKey })).secret;
}

const span = (startsInMs: number, lengthMs: number) => {
  const startMs = Date.now() + startsInMs;
  return { startTime: timestampFromMs(startMs), endTime: timestampFromMs(startMs + lengthMs) };
};

const selectChanges = statement<{ type: string; payload: Buffer }>(
  "test_reservation_changes",
  "select type, payload from scheduler.event_log where type = $1 order by seq",
);

/** What the scheduler's events tell of reservations, in order. */
async function changesOf(p: TestPlatform): Promise<ReservationChange[]> {
  await using auditor = openAuditor({ url: p.platform.auditorUrl, log: quiet });
  const rows = await auditor.query(selectChanges, [topics.reservationChanged.type]);
  return rows.map((row) => payloadOf(topics.reservationChanged, row).change);
}

/** Follows a task until it is so. */
async function reaches(p: Clients, name: string, here: (task: Task) => boolean): Promise<Task> {
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 60_000 })) {
    if (task !== undefined && here(task)) return task;
  }
  throw new Error(`${name} ended before`);
}
const runs = (p: Clients, name: string): Promise<Task> =>
  reaches(p, name, ({ state }) => state === TaskState.RUNNING);

describe("a reservation by call", () => {
  let p: TestPlatform;
  let operator: AllClients;
  beforeAll(async () => {
    p = await testPlatform();
    operator = clientsOf(p);
  });
  afterAll(async () => {
    operator[Symbol.dispose]();
    await p[Symbol.asyncDispose]();
  });

  test("is made once for a request id, listed by start, changed, given up, and in the audit log", async () => {
    const { reservations, audit } = operator;
    const parent = p.parent;
    const wanted = { displayName: "training", gpus: 2, ...span(60 * minute, 60 * minute) };
    const request = { parent, reservation: wanted, requestId: randomUUID() };
    const made = await reservations.createReservation(request);
    expect(made).toMatchObject({ ...wanted, models: [], heldGpus: 0 });
    expect(made.name).toMatch(new RegExp(`^${parent}/reservations/resv-[0-9a-z]{26}$`));
    expect(made.state).toBe(ReservationState.UPCOMING);
    expect(await reservations.createReservation(request)).toEqual(made);
    await expect(
      reservations.createReservation({ ...request, reservation: { ...wanted, gpus: 1 } }),
    ).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });

    const early = await reservations.createReservation({
      parent: orgOf(p),
      reservation: { gpus: 1, endTime: timestampFromMs(Date.now() + minute) },
    });
    expect(early.state).toBe(ReservationState.ACTIVE);
    const list = async (of: string) => {
      const names: string[] = [];
      for (let pageToken = ""; ;) {
        const page = await reservations.listReservations({ parent: of, pageSize: 1, pageToken });
        names.push(...page.reservations.map(({ name }) => name));
        if ((pageToken = page.nextPageToken) === "") return names;
      }
    };
    expect(await list(orgOf(p))).toEqual([early.name, made.name]);
    expect(await list(parent)).toEqual([made.name]);

    const id = made.name.split("/").at(-1)!;
    const byOrg = `${orgOf(p)}/reservations/${id}`;
    const shorter = timestampFromMs(timestampMs(made.endTime!) - 30 * minute);
    const changed = await reservations.updateReservation({
      reservation: { name: byOrg, gpus: 1, endTime: shorter },
      updateMask: { paths: ["gpus", "end_time"] },
    });
    expect(changed).toMatchObject({ ...{ name: made.name, gpus: 1, endTime: shorter } });
    expect(await reservations.getReservation({ name: made.name })).toEqual(changed);
    for (const name of [made.name, early.name]) await reservations.deleteReservation({ name });
    await expect(reservations.getReservation({ name: made.name })).rejects.toMatchObject({
      reason: "NOT_FOUND",
    });
    expect(await list(orgOf(p))).toEqual([]);
    const methods = async (): Promise<string[]> => {
      const { auditEvents } = await audit.listAuditEvents({ parent: orgOf(p), pageSize: 1_000 });
      const of = auditEvents.filter(({ resource }) => resource === made.name);
      return of.map(({ method }) => method.split("/")[1]!.replace("Reservation", ""));
    };
    await expect.poll(methods, { timeout: 20_000 }).toEqual(["Create", "Update", "Delete"]);
  });

  test("is refused with the field, the reason and what to do", async () => {
    const { reservations } = operator;
    const create = (reservation: object) =>
      reservations.createReservation({
        parent: p.parent,
        reservation: { gpus: 1, ...reservation },
      });
    const hour = span(60 * minute, 60 * minute);
    const wrong = async (reservation: object, field: string, text: RegExp | string) => {
      const told = expect(create(reservation), JSON.stringify(Object.keys(reservation))).rejects;
      await told.toMatchObject({
        violations: [{ field: `reservation.${field}`, description: expect.stringMatching(text) }],
      });
    };
    await wrong({ ...hour, gpus: 0 }, "gpus", "must be 1 to 1,000,000");
    await wrong({ ...hour, gpus: 3 }, "gpus", "is 3, and the fleet has 2");
    await wrong({ startTime: hour.startTime }, "end_time", "is required");
    await wrong({ ...hour, endTime: timestampFromMs(1) }, "end_time", "must be after now");
    await wrong(span(60 * minute, -1), "end_time", "must be after start_time");
    await wrong(span(-5 * minute, 60 * minute), "start_time", "must not be in the past");
    await wrong(span(367 * 24 * 60 * minute, minute), "start_time", "within 366 days from now");
    await wrong(span(minute, 367 * 24 * 60 * minute), "end_time", "within 366 days from start");
    await wrong({ ...hour, models: ["Simulated GPUs"] }, "models[0]", "no GPU of the fleet");
    await wrong({ ...hour, gpus: 1, perNode: 2 }, "per_node", "is 2, which does not divide 1 GPUs");
    await wrong({ ...hour, perNode: -1 }, "per_node", "greater than or equal to 0");
    await expect(create({ ...hour, models: ["Simulated GPUs"] })).rejects.toMatchObject({
      hint: expect.stringContaining("Simulated GPU"),
    });
    const { name } = await create({ ...hour, gpus: 2 });
    await expect(create(span(90 * minute, 60 * minute))).rejects.toMatchObject({
      reason: "QUOTA_EXCEEDED",
      hint: expect.stringContaining("another time"),
    });
    const after = await create(span(125 * minute, 60 * minute));
    // Together they would be too many.
    await expect(
      reservations.updateReservation({
        reservation: { name, endTime: after.endTime! },
        updateMask: { paths: ["end_time"] },
      }),
    ).rejects.toMatchObject({ reason: "QUOTA_EXCEEDED" });
    await expect(
      reservations.updateReservation({ reservation: { name }, updateMask: { paths: ["name"] } }),
    ).rejects.toMatchObject({ violations: [{ field: "update_mask" }] });
    for (const each of [name, after.name]) await reservations.deleteReservation({ name: each });
  });

  test("never adds up to more than the fleet, however many are asked for at once; 100 of an organisation are enough", async () => {
    const { reservations } = operator;
    const at = (fromMinutes: number) => ({ gpus: 1, ...span(fromMinutes * minute, minute) });
    const create = (reservation: ReturnType<typeof at>) =>
      reservations.createReservation({ parent: p.parent, reservation });
    const same = at(10);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => create(same)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    for (let n = 2; n < 100; n++) await create(at(10 + 2 * n));
    await expect(create(at(1_000))).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
    const page = { parent: orgOf(p), pageSize: 1_000 };
    const { reservations: all } = await reservations.listReservations(page);
    expect(all).toHaveLength(100);
    for (const { name } of all) await reservations.deleteReservation({ name });
  });

  test("of an organisation's own administrator keeps within its guarantee; of a stranger is refused", async () => {
    using admin = clientsOf(p, await keyFor(p, { role: "org_admin" }));
    using editor = clientsOf(p, await keyFor(p, { role: "project_editor" }));
    const bound = { role: "project_viewer", project: p.parent };
    const viewerKey = await keyFor(p, bound);
    using viewer = clientsOf(p, viewerKey);
    const other = await operator.organizations.createOrganization({
      organization: { displayName: "other" },
    });
    using stranger = clientsOf(p, await keyFor(p, { role: "org_admin", org: other.name }));
    const request = { parent: p.parent, reservation: { gpus: 1, ...span(minute, minute) } };
    await expect(admin.reservations.createReservation(request)).rejects.toMatchObject({
      reason: "QUOTA_EXCEEDED",
      message: expect.stringContaining("guaranteed"),
    });
    await operator.queues.updateQueue({
      queue: { name: `${orgOf(p)}/queue`, guaranteedGpus: 1 },
      updateMask: { paths: ["guaranteed_gpus"] },
    });
    const { name } = await admin.reservations.createReservation(request);
    await expect(admin.reservations.createReservation(request)).rejects.toMatchObject({
      reason: "QUOTA_EXCEEDED",
    });
    expect(await viewer.reservations.getReservation({ name })).toMatchObject({ name });
    const { directory, platform } = p;
    const listed = await type(
      { directory, platform, key: viewerKey },
      "fastgpu reservation list -q",
    );
    expect(listed).toBe(`${name.split("/").at(-1)}\n`);
    const denied = { code: "PERMISSION_DENIED" };
    await expect(editor.reservations.createReservation(request)).rejects.toMatchObject(denied);
    await expect(viewer.reservations.deleteReservation({ name })).rejects.toMatchObject(denied);
    for (const call of [
      () => stranger.reservations.getReservation({ name }),
      () => stranger.reservations.deleteReservation({ name }),
      () => stranger.reservations.createReservation(request),
      () => stranger.reservations.listReservations({ parent: orgOf(p) }),
      () =>
        stranger.reservations.updateReservation({
          reservation: { name, gpus: 1 },
          updateMask: { paths: ["gpus"] },
        }),
    ]) {
      await expect(call()).rejects.toMatchObject(denied);
    }
    // Under a name of the stranger's own it is not there.
    const posing = `${other.name}/reservations/${name.split("/").at(-1)}`;
    await expect(stranger.reservations.getReservation({ name: posing })).rejects.toMatchObject({
      reason: "NOT_FOUND",
    });
    await admin.reservations.deleteReservation({ name });
  });

  test("is typed, shown as a table, made smaller and given up", async () => {
    const made = await type(
      p,
      "fastgpu reservation create --gpus 2 --start 2h --duration 90m --name night -o json",
    );
    const { name } = fromJson(ReservationSchema, JSON.parse(made) as JsonValue);
    const id = name.split("/").at(-1)!;
    expect(await type(p, "fastgpu reservation list -o table")).toMatch(
      new RegExp(`${id} +night +projects/\\S+ +2 +- +any +\\S+Z +1h 30m +UPCOMING +0`),
    );
    const onOne = await type(p, `fastgpu reservation set ${id} --per-node 2 -o table`);
    expect(onOne).toMatch(/night +projects\/\S+ +2 +2 +any +/);
    await type(p, `fastgpu reservation set ${id} --per-node 1`);
    const smaller = await type(p, `fastgpu reservation set ${id} --gpus 1 --duration 1h -o table`);
    expect(smaller).toMatch(/night +projects\/\S+ +1 +- +any +\S+Z +1h +UPCOMING/);
    expect(await type(p, `fastgpu reservation get ${name} --quiet`)).toBe(`${id}\n`);
    await type(p, `fastgpu reservation delete ${id}`);
    expect(await type(p, "fastgpu reservation list -o json")).toBe("[]\n");
    expect(await type(p, "fastgpu reservation create --help")).toContain("--duration <duration>");
  });

  test("of another organisation is not named to who waits for it", async () => {
    const { organizations, projects, reservations } = operator;
    const organization = { displayName: "elsewhere" };
    const { name: parent } = await organizations.createOrganization({ organization });
    const { name: project } = await projects.createProject({
      parent,
      project: { displayName: "secret" },
    });
    const { name } = await reservations.createReservation({
      parent: project,
      reservation: { displayName: "hidden", gpus: 2, ...span(minute, 60 * minute) },
    });
    const task = script("true", { gpus: 1 });
    const quote = await p.tasks.quoteTask({ parent: p.parent, task });
    expect(quote.startsNow).toBe(false);
    expect(quote.conditions).toMatchObject([
      { reservation: "", description: expect.stringContaining("of another organisation") },
    ]);
    const text = JSON.stringify(
      [quote.summary, quote.conditions, quote.remedies],
      (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value),
    );
    for (const hidden of [name.split("/").at(-1)!, project.split("/")[1]!, "hidden"]) {
      expect(text).not.toContain(hidden);
    }
    await reservations.deleteReservation({ name });
    expect((await p.tasks.quoteTask({ parent: p.parent, task })).startsNow).toBe(true);
  });

  test("stops what can be stopped when it begins, however short that has run, and not what cannot", async () => {
    const [other, owner] = [await newProject(p), p.parent];
    const submit = async (parent: string, task: Task): Promise<string> =>
      (await p.tasks.runTask({ parent, task, requestId: randomUUID() })).name;
    const holder = script("sleep 600", { gpus: 1 });
    const stoppable = await submit(other, withSpec(holder, { preemptible: true }));
    const lasting = await submit(other, holder);
    await Promise.all([runs(p, stoppable), runs(p, lasting)]);
    const name = await submit(owner, script("sleep 600", { gpus: 1 }));
    const { name: reservation } = await operator.reservations.createReservation({
      parent: owner,
      reservation: { gpus: 2, endTime: timestampFromMs(Date.now() + 60 * minute) },
    });
    await runs(p, name);
    const second = await submit(owner, script("true", { gpus: 1 }));
    await reaches(p, stoppable, ({ state }) => state === TaskState.QUEUED);
    expect((await p.tasks.getTask({ name: lasting })).state).toBe(TaskState.RUNNING);
    expect((await p.tasks.getTask({ name: second })).state).toBe(TaskState.QUEUED);
    const { heldGpus } = await operator.reservations.getReservation({ name: reservation });
    expect(heldGpus).toBe(1);
    // What is over or given up is in nobody's way.
    await p.tasks.cancelTask({ name: second });
    await p.tasks.cancelTask({ name });
    await operator.reservations.deleteReservation({ name: reservation });
    await runs(p, stoppable);
    for (const each of [stoppable, lasting]) await p.tasks.cancelTask({ name: each });
  }, 120_000);

  test("lends what its owner has no work for to what can be stopped, and has it back at once", async () => {
    const [other, owner] = [await newProject(p), p.parent];
    const submit = async (parent: string, task: Task): Promise<string> =>
      (await p.tasks.runTask({ parent, task, requestId: randomUUID() })).name;
    const { name: reservation } = await operator.reservations.createReservation({
      parent: owner,
      reservation: { gpus: 2, endTime: timestampFromMs(Date.now() + 60 * minute) },
    });
    const holder = script("sleep 600", { gpus: 1 });
    const lasting = await submit(other, holder);
    const waits = ({ queueReason }: Task): boolean => queueReason === QueueReason.NO_CAPACITY;
    expect((await reaches(p, lasting, waits)).statusMessage).toContain("reserved");
    const { remedies } = await p.tasks.explainTask({ name: lasting });
    expect(remedies.flatMap(({ changes }) => changes)).toMatchObject([
      { fieldPath: "spec.preemptible", valueJson: "true" },
    ]);
    const lent = await submit(other, withSpec(holder, { preemptible: true }));
    await runs(p, lent);
    const own = await submit(owner, script("true", { gpus: 2 }));
    expect((await endOf(p, own)).state).toBe(TaskState.SUCCEEDED);
    const back = await reaches(
      p,
      lent,
      ({ state, attemptCount }) => state === TaskState.RUNNING && attemptCount === 2,
    );
    expect(back.preemptions).toBe(1);
    expect((await p.tasks.getTask({ name: lasting })).attemptCount).toBe(0);
    for (const name of [lent, lasting]) await p.tasks.cancelTask({ name });
    await operator.reservations.deleteReservation({ name: reservation });
  }, 120_000);

  test("is an event for each change, and part of what a replay decides by", async () => {
    const told = await changesOf(p);
    expect(told.slice(0, 1)).toEqual([ReservationChange.CREATED]);
    expect(told).toContain(ReservationChange.UPDATED);
    const count = (of: ReservationChange) => told.filter((change) => change === of).length;
    // Each test gives up what it made.
    expect(count(ReservationChange.DELETED)).toBe(count(ReservationChange.CREATED));
    await p.platform.stop();
    const dataDir = join(p.directory, "data");
    const replayed = { files: [], dataDir, fromMs: undefined, toMs: undefined };
    expect(await replayRecordings(replayed)).toMatchObject({ mismatches: 0, segments: [{}] });
  }, 60_000);
});

test("a reservation ahead keeps a long task of another project from starting, lets a short one go, and its owner starts at its time, through a SIGKILL", async () => {
  await using p = await startKillable("fastgpu-reserve-", { workers: 1, simulatedGpus: 2 });
  using clients = clientsOf(p);
  const other = await newProject(p);
  const startMs = Date.now() + 45_000;
  const startTime = timestampFromMs(startMs);
  const reservation = { gpus: 2, startTime, endTime: timestampFromMs(startMs + 30 * minute) };
  const made = await clients.reservations.createReservation({ parent: p.parent, reservation });
  const submit = async (parent: string, task: Task): Promise<string> =>
    (await p.tasks.runTask({ parent, task, requestId: randomUUID() })).name;
  const long = await submit(other, script("sleep 600", { gpus: 1 }));
  const { statusMessage } = await reaches(
    p,
    long,
    ({ queueReason }) => queueReason === QueueReason.NO_CAPACITY,
  );
  expect(statusMessage).toContain(made.name.split("/").at(-1));
  const told = await p.tasks.explainTask({ name: long });
  expect(told.conditions).toMatchObject([{ reservation: made.name }]);
  expect(told.conditions[0]?.description).toContain(`2 GPUs by ${made.name}`);
  expect(told.remedies.map(({ project }) => project)).toContain(p.parent);
  const second = durationFromMs(1_000);
  const short = withSpec(script("true", { gpus: 1 }), { maxRuntime: second, stopGrace: second });
  expect((await endOf(p, await submit(other, short))).state).toBe(TaskState.SUCCEEDED);
  const own = await submit(
    p.parent,
    withSpec(script("true", { gpus: 2 }), { startAfter: startTime }),
  );

  await p.killAndRestart();
  const { reservations } = await clients.reservations.listReservations({ parent: orgOf(p) });
  expect(reservations).toMatchObject([{ name: made.name, gpus: 2, startTime }]);
  const ended = await endOf(p, own, 120_000);
  expect(ended.state).toBe(TaskState.SUCCEEDED);
  expect(timestampMs(ended.startTime!)).toBeGreaterThanOrEqual(startMs);
  expect(await p.tasks.getTask({ name: long })).toMatchObject({
    ...{ state: TaskState.QUEUED, attemptCount: 0 },
  });
  await clients.reservations.deleteReservation({ name: made.name });
  await runs(p, long);
  await p.tasks.cancelTask({ name: long });
  await endOf(p, long);
}, 240_000);

test("GPUs reserved on one node each keep a node whole, and its owner's task starts there at its time, through a SIGKILL", async () => {
  await using p = await startKillable("fastgpu-shape-", { workers: 2, simulatedGpus: 2 });
  using clients = clientsOf(p);
  const { reservations } = clients;
  const other = await newProject(p);
  const startMs = Date.now() + 45_000;
  const startTime = timestampFromMs(startMs);
  const endTime = timestampFromMs(startMs + 30 * minute);
  const create = (shape: { gpus: number; perNode: number }) =>
    reservations.createReservation({
      parent: p.parent,
      reservation: { ...shape, startTime, endTime },
    });
  await expect(create({ gpus: 3, perNode: 3 })).rejects.toMatchObject({
    violations: [
      {
        field: "reservation.per_node",
        description: expect.stringContaining("no node has more than 2 GPUs"),
      },
    ],
  });
  const made = await create({ gpus: 2, perNode: 2 });
  expect(made).toMatchObject({ gpus: 2, perNode: 2 });
  await expect(create({ gpus: 4, perNode: 2 })).rejects.toMatchObject({
    reason: "QUOTA_EXCEEDED",
    message: expect.stringContaining("only 2 GPUs, 2 on one node each, are not reserved"),
  });
  const submit = async (parent: string, task: Task): Promise<string> =>
    (await p.tasks.runTask({ parent, task, requestId: randomUUID() })).name;
  // As many GPUs are left as it asks for; but it would break both nodes.
  const apart = withSpec(script("sleep 600", { gpus: 1 }), {
    ...{ replicas: 2, topology: { spreadOver: TopologyLevel.NODE } },
  });
  const long = await submit(other, apart);
  const { statusMessage } = await reaches(
    p,
    long,
    ({ queueReason }) => queueReason === QueueReason.NO_CAPACITY,
  );
  expect(statusMessage).toContain(made.name.split("/").at(-1));
  const told = await p.tasks.explainTask({ name: long });
  expect(told.conditions).toMatchObject(
    expect.arrayContaining([
      expect.objectContaining({
        reservation: made.name,
        description: expect.stringContaining("2 GPUs, 2 on one node each, by"),
      }),
    ]),
  );
  const own = await submit(
    p.parent,
    withSpec(script("true", { gpus: 2 }), { startAfter: startTime }),
  );

  await p.killAndRestart();
  const { reservations: kept } = await reservations.listReservations({ parent: orgOf(p) });
  expect(kept).toMatchObject([{ name: made.name, gpus: 2, perNode: 2 }]);
  const ended = await endOf(p, own, 120_000);
  expect(ended.state).toBe(TaskState.SUCCEEDED);
  expect(timestampMs(ended.startTime!)).toBeGreaterThanOrEqual(startMs);
  expect((await p.tasks.getTask({ name: long })).attemptCount).toBe(0);
  await reservations.deleteReservation({ name: made.name });
  await runs(p, long);
  await p.tasks.cancelTask({ name: long });
  await endOf(p, long);
}, 240_000);

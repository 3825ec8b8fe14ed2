import { execFile } from "node:child_process";
import { mkdtemp, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { GpuId, NodeId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { newId } from "@fastgpu/domain/ids";
import { plainTask, type PlanNode, type PlanState, type PlanTask } from "@fastgpu/scheduling/plan";
import { plannerOf } from "@fastgpu/scheduling/recording/replay";
import {
  defaultSchedulingPolicy,
  type SchedulingPolicy,
} from "@fastgpu/scheduling/scheduling-policy";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { createPlanning } from "../src/cycle/planning.ts";
import { engineVersion } from "../src/recording/engine-version.ts";
import { createRecorder, type Recorder } from "../src/recording/recorder.ts";
import { readSegment } from "../src/recording/read-segment.ts";
import { listSegments } from "../src/recording/ring.ts";
import { replaySegments } from "../src/replay/replay.ts";

const startMs = 1_790_000_000_000;
const clock = { nowMs: () => startMs };

const random = (seed: number): Uint8Array =>
  Uint8Array.from({ length: 10 }, (_, at) => Math.imul(seed + 7, 2_654_435_761 + at) >>> 24);

/** A fleet of four nodes with two GPUs each, the first `busy` of them held. */
function nodesOf(busy: number): PlanNode[] {
  return Array.from({ length: 4 }, (_, at) => ({
    id: newId("node", 1, random(at)) as NodeId,
    name: `node-${at}`,
    acceptsWork: true,
    runtimes: ["process"],
    cpuMillis: 8_000,
    memoryMib: 65_536,
    diskMib: 100_000,
    gpus: [0, 1].map((gpu) => ({
      id: newId("gpu", gpu, random(at)) as GpuId,
      model: "A100",
      memoryMib: 80_000,
      simulated: true,
      free: at * 2 + gpu >= busy,
      reservedFor: undefined,
    })),
    topology: {},
    running: [],
  }));
}

function taskOf(seed: number): PlanTask {
  return {
    ...plainTask,
    id: newId("task", startMs + seed, random(seed)),
    org: newId("org", 1, random(1)) as OrgId,
    project: newId("proj", 1, random(seed % 3)) as ProjectId,
    epoch: 0,
    priority: 0,
    submittedMs: startMs + seed,
    notBeforeMs: 0,
    demand: {
      runtime: "process",
      gpuCount: seed % 3,
      gpuModels: [],
      gpuMinMemoryMib: 0,
      simulatedOk: true,
      cpuMillis: 100,
      memoryMib: 64,
      diskMib: 0,
    },
    stopGraceMs: 10_000,
    excludedGpus: [],
    array: undefined,
  };
}

/** Cycle `at`: another part of the fleet is busy, and other tasks wait. */
const stateOf = (at: number): PlanState => ({
  nodes: nodesOf(at % 7),
  tasks: Array.from({ length: 6 }, (_, of) => taskOf(at * 3 + of)),
  ...{ queues: [], usage: [], reservations: [] },
});

async function recorderIn(
  directory: string,
  over: { maxBytes?: number; segmentBytes?: number; engine?: string } = {},
): Promise<Recorder> {
  const engine = over.engine ?? (await engineVersion());
  return createRecorder({
    ...{ directory, clock, log: quiet },
    maxBytes: over.maxBytes ?? 64 * 1024 * 1024,
    segmentBytes: over.segmentBytes ?? 16 * 1024 * 1024,
    writer: { product: "0.0.0", engine, replica: "scheduler-0", term: 3 },
  });
}

const newDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), "recordings-"));

/** Records so many cycles; before some, another policy is set. */
async function record(
  directory: string,
  cycles: number,
  policies: Readonly<Record<number, SchedulingPolicy>> = {},
): Promise<void> {
  await using recorder = await recorderIn(directory);
  const planning = createPlanning(defaultSchedulingPolicy, recorder);
  for (let at = 0; at < cycles; at += 1) {
    const policy = policies[at];
    if (policy !== undefined) planning.setPolicy(policy);
    planning.plan(stateOf(at), startMs + at * 10);
    if (at % 5 === 0) planning.note({ ...stateOf(at), tasks: [] }, startMs + at * 10 + 1);
  }
}

const spreading: SchedulingPolicy = { ...defaultSchedulingPolicy, placement: "spreading" };
const drawing: SchedulingPolicy = { ...defaultSchedulingPolicy, placement: "random" };

test("what was recorded is decided again bit for bit, across changes of the policy and random draws", async () => {
  const directory = await newDirectory();
  await record(directory, 200, { 50: spreading, 90: drawing, 150: defaultSchedulingPolicy });
  const report = await replaySegments(await listSegments(directory));
  expect(report).toMatchObject({ cycles: 200, mismatches: 0, firstMismatch: undefined });
  expect(report.decisions).toBeGreaterThan(200);
  expect(report.segments).toMatchObject([{ ended: true, damage: undefined, refused: undefined }]);
});

test("ranks of what has run are recorded with the state, and decide again in the replay", async () => {
  const hour = 3_600_000;
  /** One GPU, and two tasks that have had as much; the ranks, renewed every few cycles, say who goes first. */
  const ranked = (at: number): PlanState => {
    const [node] = nodesOf(1);
    const tasks = [1, 4].map((seed) => ({
      ...taskOf(seed),
      ...{ preemptible: true, attainedGpuMs: 10 * hour },
    }));
    const [first, second] = tasks as [PlanTask, PlanTask];
    const turned = Math.floor(at / 3) % 2 === 1;
    const ranks = [
      { id: first.id, rankMs: (turned ? 40 : 1) * hour },
      { id: second.id, rankMs: (turned ? 1 : 40) * hour },
    ];
    return { ...stateOf(at), nodes: [node!], tasks, ranks };
  };
  const directory = await newDirectory();
  const started: string[] = [];
  {
    await using recorder = await recorderIn(directory);
    const planning = createPlanning(defaultSchedulingPolicy, recorder);
    for (let at = 0; at < 30; at += 1) {
      const { placements } = planning.plan(ranked(at), startMs + at * 10);
      started.push(...placements.map(({ task }) => task.id));
    }
  }
  expect(started).toHaveLength(30);
  expect(started.filter((id) => id === taskOf(1).id)).toHaveLength(15);
  const report = await replaySegments(await listSegments(directory));
  expect(report).toMatchObject({ cycles: 30, decisions: 30, mismatches: 0 });
});

test("the window says which cycles count", async () => {
  const directory = await newDirectory();
  await record(directory, 100);
  const window = { fromMs: startMs + 200, toMs: startMs + 500 };
  const report = await replaySegments(await listSegments(directory), window);
  expect(report).toMatchObject({ cycles: 30, mismatches: 0 });
});

test("a decision that another policy took is a mismatch, and told with its cycle and what differs", async () => {
  const directory = await newDirectory();
  {
    await using recorder = await recorderIn(directory);
    // The recording claims the default policy, but the decisions are another's.
    recorder.begin({ policy: defaultSchedulingPolicy, seed: 1, learned: undefined });
    const planner = plannerOf({ policy: spreading, seed: 1, learned: undefined });
    for (let at = 0; at < 50; at += 1) {
      const state = stateOf(at);
      recorder.cycle(state, startMs + at, planner.plan(state, startMs + at));
    }
  }
  const report = await replaySegments(await listSegments(directory));
  expect(report.cycles).toBe(50);
  expect(report.mismatches).toBeGreaterThan(10);
  expect(report.firstMismatch?.differences.map(({ part }) => part)).toContain("placements");
  expect(report.firstMismatch?.nowMs).toBe(startMs + (report.firstMismatch?.cycle ?? 0) - 1);
});

test("a recording of another engine is refused by name", async () => {
  const directory = await newDirectory();
  {
    await using recorder = await recorderIn(directory, { engine: "0123456789abcdef" });
    createPlanning(defaultSchedulingPolicy, recorder).plan(stateOf(1), startMs);
  }
  const report = await replaySegments(await listSegments(directory));
  expect(report.cycles).toBe(0);
  expect(report.segments[0]?.refused).toContain("engine 0123456789abcdef of FastGPU 0.0.0");
});

test("the readable part of a cut or damaged recording is replayed, and the damage told", async () => {
  const directory = await newDirectory();
  // Several chunks: a recording is written in pieces as it grows.
  await using recorder = await recorderIn(directory);
  const planning = createPlanning(defaultSchedulingPolicy, recorder);
  for (let at = 0; at < 60; at += 1) planning.plan(wideState(at), startMs + at);
  await recorder[Symbol.asyncDispose]();
  const [path = ""] = await listSegments(directory);
  const whole = await readFile(path);
  const replayOf = async (bytes: Buffer) => {
    const copy = join(directory, "copy.bin");
    await writeFile(copy, bytes);
    return await replaySegments([copy]);
  };
  expect(await replayOf(whole)).toMatchObject({ cycles: 60, mismatches: 0 });

  const cut = await replayOf(whole.subarray(0, whole.length - 100));
  expect(cut.segments[0]?.damage).toContain("cut off");
  expect(cut).toMatchObject({ mismatches: 0 });
  expect(cut.cycles).toBeGreaterThan(0);
  expect(cut.cycles).toBeLessThan(60);

  const damaged = Buffer.from(whole);
  damaged[whole.length - 200] = (damaged[whole.length - 200] ?? 0) ^ 1;
  const half = await replayOf(damaged);
  expect(half.segments[0]?.damage).toContain("checksum");
  expect(half).toMatchObject({ mismatches: 0, cycles: cut.cycles });

  expect((await replayOf(Buffer.from("not a recording"))).segments[0]).toMatchObject({
    refused: "it does not begin as a recording does",
    cycles: 0,
  });
  expect((await replayOf(whole.subarray(0, 12))).segments[0]?.refused).toContain("cut off");
});

/** A state of which little can be compressed. */
function wideState(at: number): PlanState {
  const { org, project } = taskOf(at);
  const users = Array.from({ length: 2_000 }, (_, user) => `u${user}`);
  const usage = users.map((user) => ({ org, project, user, gpuMs: Math.random() * 1e9 }));
  return { ...stateOf(at), usage };
}

test("a full segment is followed by another that is replayed by itself; the oldest make room", async () => {
  const directory = await newDirectory();
  const limits = { maxBytes: 400_000, segmentBytes: 100_000 };
  await using recorder = await recorderIn(directory, limits);
  const planning = createPlanning(defaultSchedulingPolicy, recorder);
  const written = new Map<string, number>();
  /** Bytes that all segments had at their greatest, those included that made room. */
  const writtenBytes = async (): Promise<number> => {
    for (const path of await listSegments(directory)) {
      const { size } = await stat(path).catch(() => ({ size: 0 }));
      written.set(path, Math.max(size, written.get(path) ?? 0));
    }
    return written.values().reduce((sum, bytes) => sum + bytes, 0);
  };
  for (let at = 0; !written.keys().some((path) => path.endsWith("-3-000007.fgrec")); at += 1) {
    const before = await writtenBytes();
    planning.plan(wideState(at), startMs + at);
    // Compression and files go on behind the cycles, on a busy machine far behind.
    while ((await writtenBytes()) <= before) await new Promise((resolve) => setImmediate(resolve));
  }
  await recorder[Symbol.asyncDispose]();
  const paths = await listSegments(directory);
  expect(paths.some((path) => path.endsWith("-3-000000.fgrec"))).toBe(false);
  const report = await replaySegments(paths);
  expect(report.segments.every(({ cycles }) => cycles > 0)).toBe(true);
  expect(report).toMatchObject({ mismatches: 0 });
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  // A segment ends with the cycle after it became full: what was under way then comes on top.
  expect(Math.max(...sizes)).toBeLessThan(1_500_000);
}, 180_000);

test("a disk that refuses ends the recording, never the cycle", async () => {
  const directory = join(await newDirectory(), "file");
  await writeFile(directory, "in the way");
  await using recorder = await recorderIn(directory);
  const planning = createPlanning(defaultSchedulingPolicy, recorder);
  for (let at = 0; at < 20; at += 1) {
    expect(planning.plan(stateOf(at), startMs + at).placements.length).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(recorder.wantsBeginning()).toBe(false);
});

test("a disk that fills up ends the recording and keeps no file open, and the next try is made a minute later", async () => {
  const program = fileURLToPath(new URL("./full-disk.ts", import.meta.url));
  const directory = await newDirectory();
  // Every file may have 1 KiB at most: more is refused as by a full disk.
  const shell = 'ulimit -f 2; exec "$0" --expose-gc "$@"';
  const ran = promisify(execFile)("/bin/sh", ["-c", shell, process.execPath, program, directory]);
  expect(JSON.parse((await ran).stdout)).toEqual({ refusals: 2, files: 2, open: 0 });
});

test("a planner that throws begins anew, with what was learned through all changes of the policy", async () => {
  const directory = await newDirectory();
  {
    await using recorder = await recorderIn(directory);
    const planning = createPlanning(defaultSchedulingPolicy, recorder);
    planning.plan(stateOf(0), startMs);
    planning.setPolicy(spreading);
    planning.plan(stateOf(2), startMs + 1);
    const broken = { ...stateOf(1), tasks: undefined } as unknown as PlanState;
    expect(() => planning.plan(broken, startMs + 2)).toThrow();
    planning.plan(stateOf(4), startMs + 3);
  }
  const paths = await listSegments(directory);
  const report = await replaySegments(paths);
  expect(report).toMatchObject({ cycles: 3, mismatches: 0 });
  expect(report.segments).toHaveLength(2);
  const second = await readSegment(paths[1] ?? "");
  const [frame] = second.header === undefined ? [] : second.frames();
  // Six tasks in each of the first two cycles, all of them different.
  expect(frame).toMatchObject({
    kind: "beginning",
    beginning: { policy: spreading, learned: { mix: { arrivals: 12 } } },
  });
});

import { randomUUID } from "node:crypto";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TaskState, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { listSegments } from "@fastgpu/scheduler/recording/ring";
import { expect, test } from "vitest";
import { replayRecordings, whatIf } from "../src/replay.ts";
import { endOf, script, testPlatform, withSpec, type TestPlatform } from "./harness.ts";
import { clientsOf } from "./clients.ts";
import { outcomeOf } from "./typed-command.ts";

async function newProject(p: TestPlatform, displayName: string): Promise<string> {
  using clients = clientsOf(p);
  const parent = `organizations/${p.platform.org}`;
  const request = { parent, project: { displayName }, requestId: randomUUID() };
  return (await clients.projects.createProject(request)).name;
}

/** Submits tasks and waits for the end of each. */
async function work(p: TestPlatform, parent: string, tasks: readonly Task[]): Promise<void> {
  const items = tasks.map((task) => ({ task, requestId: randomUUID() }));
  const { outcomes } = await p.tasks.batchRunTasks({ parent, items });
  const names = outcomes.map(({ outcome }) => {
    if (outcome.case !== "task") throw new Error(`not submitted: ${outcome.value?.message}`);
    return outcome.value.name;
  });
  const ends = await Promise.all(names.map((name) => endOf(p, name, 120_000)));
  expect(ends.map(({ state }) => state)).toEqual(names.map(() => TaskState.SUCCEEDED));
}

const some = (count: number, make: (at: number) => Task): Task[] =>
  Array.from({ length: count }, (_, at) => make(at));

test("a platform's recording is replayed without a mismatch, and simulated under another policy", async () => {
  await using p = await testPlatform({ simulatedGpus: 4, workers: 2 });
  const [one, two] = [await newProject(p, "one"), await newProject(p, "two")];
  const mixed = (at: number): Task =>
    withSpec(script("sleep 0.3", at % 5 === 0 ? {} : { gpus: 1 + (at % 3) }), {
      priority: at % 3,
      preemptible: at % 2 === 0,
    });
  await Promise.all([
    work(p, one, some(30, mixed)),
    work(p, two, some(20, mixed)),
    work(p, p.parent, [
      script("true", { array: 60 }),
      script("sleep 1", { gpus: 4 }),
      withSpec(script("sleep 0.5", { gpus: 2 }), { replicas: 3 }),
    ]),
  ]);
  // Another leader, with a planner of its own.
  await p.restart();
  await work(p, one, some(10, mixed));
  await p.platform.stop();

  const dataDir = join(p.directory, "data");
  const all = { files: [], dataDir, fromMs: undefined, toMs: undefined };
  const report = await replayRecordings(all);
  expect(report.firstMismatch).toBeUndefined();
  expect(report).toMatchObject({ mismatches: 0 });
  expect(report.decisions).toBeGreaterThanOrEqual(63);
  expect(report.segments.map(({ ended, damage }) => ({ ended, damage }))).toEqual([
    { ended: true, damage: undefined },
    { ended: true, damage: undefined },
  ]);

  const file = join(p.directory, "other.yaml");
  await writeFile(file, "placement: spreading\norder:\n  priorityMd: 0\n");
  const on = { signal: new AbortController().signal, progress: () => undefined };
  const simulated = await whatIf({ ...all, policy: file, prices: undefined }, on);
  expect(simulated.result).toMatchObject({
    simulated: true,
    before: { policyName: "recorded", tasks: { succeeded: 63 }, fleet: { nodes: 2, gpus: 8 } },
    after: { policyName: "other.yaml", tasks: { succeeded: 63 } },
  });
  for (const words of ["waiting, mean", "fairness index", "GPUs allocated", "cost"]) {
    expect(simulated.text).toContain(words);
    expect(simulated.page()).toContain(words);
  }

  const cli = await outcomeOf(p, `fastgpu scheduler replay --data "${dataDir}" -o json`);
  expect(cli.code).toBe(0);
  expect(JSON.parse(cli.out)).toMatchObject({ mismatches: 0, decisions: report.decisions });

  // Cut in the middle, as a crash leaves it: what is whole is replayed, and the rest is told.
  const [path = ""] = await listSegments(join(dataDir, "recordings"));
  await truncate(path, Math.floor((await readFile(path)).length / 2));
  const cut = await outcomeOf(p, `fastgpu scheduler replay --data "${dataDir}" -o json`);
  expect(cut.code).toBe(0);
  expect(cut.err).toContain("is damaged: it is cut off");
  const rest = JSON.parse(cut.out) as { mismatches: number; cycles: number };
  expect(rest.mismatches).toBe(0);
  expect(rest.cycles).toBeLessThan(report.cycles);
}, 240_000);

test("what cannot be replayed is refused with the reason", async () => {
  await using p = await testPlatform({ simulatedGpus: 1 });
  await work(p, p.parent, [script("true", { gpus: 1 })]);
  await p.platform.stop();
  const dataDir = join(p.directory, "data");
  const [path = ""] = await listSegments(join(dataDir, "recordings"));
  const other = join(p.directory, "other.fgrec");
  // No header of this engine has another's name and a right checksum: the bytes are taken apart and put together.
  const { readChunks, chunkOf, segmentMark } = await import("@fastgpu/scheduler/recording/segment");
  const { chunks } = readChunks(await readFile(path));
  const renamed = chunks.map(({ kind, body }) => {
    const text = kind === "H" ? body.toString().replace(/"engine":"\w+"/, '"engine":"f00"') : "";
    return chunkOf(kind as "H", kind === "H" ? Buffer.from(text) : body);
  });
  await writeFile(other, Buffer.concat([segmentMark, ...renamed]));
  const refused = await outcomeOf(p, `fastgpu scheduler replay "${other}"`);
  expect(refused.code).toBe(65);
  expect(refused.err).toContain("engine f00 of FastGPU 0.1.0 recorded it, this is engine");
  const none = await outcomeOf(p, `fastgpu scheduler replay "${other}.gone"`);
  expect(none.code).toBe(66);
  expect(none.err).toMatch(/^error: there is no file .*\n {2}try: name recordings/);
  const later = `fastgpu scheduler replay "${join(dataDir, "recordings")}" --from 2099-01-01T00:00:00Z`;
  expect((await outcomeOf(p, later)).err).toContain("no recorded cycle lies in that time");
  const nothing = await outcomeOf(p, `fastgpu scheduler replay --data "${p.directory}"`);
  expect(nothing.code).toBe(66);
  expect(nothing.err).toContain("there are no recordings");
}, 120_000);

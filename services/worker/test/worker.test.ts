import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ExitClass, SimulatedPolicy } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { newId } from "@fastgpu/domain/ids";
import { decodeFrames } from "@fastgpu/domain/log-frame";
import { expect, test } from "vitest";
import type { NodeSample } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { createMemoryBus } from "@fastgpu/events/memory-bus";
import { signals } from "@fastgpu/events/topics";
import { createLogger } from "@fastgpu/telemetry/log";
import { createSimulatedGpus } from "../src/gpu/simulated.ts";
import { openEngine } from "../src/runtime/container/open.ts";
import { startSamples } from "../src/samples/publish.ts";
import { address, busyboxTar, image, skipReason } from "./container-image.ts";
import { type Peer, project, startPeer } from "./peer.ts";
import { endOf, freshDirectory, shell, startWorker, waitForFile } from "./worker-child.ts";

const kindsOf = (peer: Peer, attempt: string): (string | undefined)[] =>
  peer.reports.filter((r) => r.attempt === attempt).map((r) => r.event.case);

test("a process task: reports in order, outputs and log in storage, nothing left once acknowledged", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const inputs = [{ artifact: `projects/${project}/artifacts/art-1`, path: "data/in.txt" }];
  const script =
    'cat "$FASTGPU_INPUT_DIR/data/in.txt"; mkdir "$FASTGPU_OUTPUT_DIR/m"; echo w > "$FASTGPU_OUTPUT_DIR/m/model";' +
    `ln -s /etc/passwd "$FASTGPU_OUTPUT_DIR/link"; echo '{"step":3,"of":5,"metrics":{"loss":0.5}}' >&3; sleep 0.3`;
  const attempt = peer.lease({ ...shell(script), inputs });
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(kindsOf(peer, attempt)).toEqual(["starting", "running", "finalizing", "ended"]);
  expect(ended).toMatchObject({ exitClass: ExitClass.OK, exitCode: 0 });
  expect(ended.manifestDigest).not.toBe("");
  expect(ended.logArtifact).not.toBe("");
  expect(peer.manifests[0]?.map((file) => file.path)).toEqual(["m/model"]);
  const log = decodeFrames(peer.files.get("output.log")?.content ?? Buffer.alloc(0));
  expect(log.map((f) => Buffer.from(f.record.data).toString()).join("")).toBe("content of art-1");
  await peer.until(() => peer.progress.length > 0);
  expect(peer.progress[0]?.progress).toMatchObject({ step: 3n, of: 5n, metrics: { loss: 0.5 } });
  await peer.until(() => readdirSync(join(worker.directory, "attempts")).length === 0);
  expect(readdirSync(join(worker.directory, "private", "records"))).toEqual([]);
});

test("a checkpoint that a task tells of travels with the next heartbeat, also without a step, once", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const wait = (file: string): string => `while [ ! -e ${file} ]; do sleep 0.02; done`;
  const script =
    `echo '{"step":1,"checkpoint":true}' >&3; echo '{"step":2}' >&3; ${wait("more")}; ` +
    `echo '{"checkpoint":true}' >&3; ${wait("enough")}`;
  const attempt = peer.lease(shell(script));
  const work = join(worker.directory, "attempts", attempt, "work");
  const told = () => peer.progress.filter((each) => each.savedAgoMs !== undefined);
  // The newest step travels, and with it or before it the checkpoint.
  await peer.until(() => peer.progress.some(({ progress }) => progress?.step === 2n));
  expect(told()).toMatchObject([{ attempt, progress: {} }]);
  writeFileSync(join(work, "more"), "");
  await peer.until(() => told().length > 1);
  expect(told()[1]?.progress).toBeUndefined();
  writeFileSync(join(work, "enough"), "");
  await peer.report(attempt, "ended");
  expect(told()).toHaveLength(2);
});

test.each([
  ["exit 3", ExitClass.USER_EXIT, 3],
  ["kill -9 $$", ExitClass.USER_EXIT, 137],
])("`%s` ends as class %s", async (script, exitClass, exitCode) => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer);
  const attempt = peer.lease(shell(script));
  expect(endOf(await peer.report(attempt, "ended"))).toMatchObject({ exitClass, exitCode });
});

test("a stop is delivered once and names the class; one that came after the exit changes nothing", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const script = "trap 'exit 0' TERM; touch ready; while :; do sleep 0.02; done";
  const attempt = peer.lease(shell(script));
  await peer.report(attempt, "running");
  await waitForFile(join(worker.directory, "attempts", attempt, "work", "ready"));
  peer.stop(attempt, ExitClass.PREEMPTED, 30_000);
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(ended).toMatchObject({ exitClass: ExitClass.PREEMPTED, exitCode: 0 });
  expect(kindsOf(peer, attempt)).toEqual([
    "starting",
    "running",
    "stopping",
    "finalizing",
    "ended",
  ]);
});

test("a stop for an attempt that never came is answered, and a late lease of it is not started", async () => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer);
  const attempt = "att-00000000000000000000000001";
  peer.stop(attempt, ExitClass.CANCELLED, 0);
  expect(endOf(await peer.report(attempt, "ended")).exitClass).toBe(ExitClass.CANCELLED);
  peer.lease(shell("true"), { attempt });
  const other = peer.lease(shell("true"));
  await peer.report(other, "ended");
  expect(kindsOf(peer, attempt)).toEqual(["ended"]);
});

test("a worker killed with SIGKILL finds its task running again, and its exit is reported once", async () => {
  await using peer = await startPeer();
  const first = await startWorker(peer);
  const attempt = peer.lease(shell("while [ ! -e go ]; do sleep 0.02; done; echo done; exit 4"));
  await peer.report(attempt, "running");
  await first.kill("SIGKILL");
  await using second = await startWorker(peer, first.directory);
  expect(peer.hellos[1]?.liveAttempts.map((live) => live.attempt)).toEqual([attempt]);
  writeFileSync(join(second.directory, "attempts", attempt, "work", "go"), "");
  expect(endOf(await peer.report(attempt, "ended")).exitCode).toBe(4);
  // One not acknowledged in time comes again, with the same id: that is the same report.
  const running = peer.reports.filter((r) => r.attempt === attempt && r.event.case === "running");
  expect(new Set(running.map((r) => r.reportId)).size).toBe(1);
});

test("an exit while no worker lived is reported by the next one, GPUs and all", async () => {
  await using peer = await startPeer();
  const first = await startWorker(peer, freshDirectory(), { simulatedGpus: 1 });
  const script = "while [ ! -e go ]; do sleep 0.02; done; exit 6";
  const attempt = peer.lease(shell(script), { gpus: ["gpu-0"] });
  await peer.report(attempt, "running");
  await first.kill("SIGKILL");
  const folder = join(first.directory, "attempts", attempt);
  writeFileSync(join(folder, "work", "go"), "");
  await waitForFile(join(folder, "exit.json"));
  await using _second = await startWorker(peer, first.directory, { simulatedGpus: 1 });
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(ended).toMatchObject({ exitClass: ExitClass.USER_EXIT, exitCode: 6 });
});

test("after a restore of the platform nothing of before it goes on", async () => {
  await using peer = await startPeer();
  peer.incarnation = 1;
  await using worker = await startWorker(peer);
  const attempt = peer.lease(shell("sleep 1000"));
  await peer.report(attempt, "running");
  peer.incarnation = 2;
  peer.cut();
  await peer.until(() => peer.hellos.length === 2);
  const folder = join(worker.directory, "attempts");
  while (readdirSync(folder).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(kindsOf(peer, attempt)).toEqual(["starting", "running"]);
});

test("reports that were not acknowledged come again after SIGKILL, with growing ages", async () => {
  await using peer = await startPeer();
  peer.ackReports = false;
  const first = await startWorker(peer);
  const attempt = peer.lease(shell("true"));
  const before = await peer.report(attempt, "ended");
  await first.kill("SIGKILL");
  peer.reports.length = 0;
  peer.ackReports = true;
  await using _second = await startWorker(peer, first.directory);
  const after = await peer.report(attempt, "ended");
  expect(after.reportId).toBe(before.reportId);
  expect(after.agoMs).toBeGreaterThan(before.agoMs);
  expect(endOf(after).processesGoneAgoMs).toBeGreaterThan(endOf(before).processesGoneAgoMs);
});

test("SIGTERM detaches: the task goes on and the next worker has it", async () => {
  await using peer = await startPeer();
  const first = await startWorker(peer);
  const attempt = peer.lease(shell("while [ ! -e go ]; do sleep 0.02; done; exit 0"));
  await peer.report(attempt, "running");
  await first.kill("SIGTERM");
  expect(kindsOf(peer, attempt)).toEqual(["starting", "running"]);
  await using second = await startWorker(peer, first.directory);
  writeFileSync(join(second.directory, "attempts", attempt, "work", "go"), "");
  expect(endOf(await peer.report(attempt, "ended")).exitClass).toBe(ExitClass.OK);
});

test("members of a gang on one worker know their ranks, keep to their own folders, and are found again", async () => {
  await using peer = await startPeer();
  const topology = { rack: "r1", nvlink: "nv0" };
  const first = await startWorker(peer, freshDirectory(), { topology });
  expect(peer.hellos[0]?.topology).toEqual(topology);
  const script =
    'echo "$RANK $WORLD_SIZE $FASTGPU_GANG_RANK $FASTGPU_GANG_SIZE $FASTGPU_GANG_NODES $FASTGPU_ATTEMPT" > said; ' +
    'echo "$RANK" > "$FASTGPU_CHECKPOINT_DIR/rank"; while [ ! -e go ]; do sleep 0.02; done';
  const gang = newId("att", Date.now(), randomBytes(10));
  const task = newId("task", Date.now(), randomBytes(10));
  const nodes = ["node-a", "node-b", "node-b"];
  const names = [gang, `${gang}-2`];
  for (const [at, attempt] of names.entries()) {
    peer.lease(shell(script), { attempt, task, gang: { rank: 2 * at, size: 3, nodes } });
  }
  const said = (at: number): string =>
    join(first.directory, "attempts", names[at] ?? "", "work", "said");
  await Promise.all(names.map((name) => peer.report(name, "running")));
  await Promise.all([0, 1].map((at) => waitForFile(said(at))));
  expect([0, 1].map((at) => readFileSync(said(at), "utf8"))).toEqual([
    `0 3 0 3 node-a,node-b,node-b ${gang}\n`,
    `2 3 2 3 node-a,node-b,node-b ${gang}\n`,
  ]);
  for (const [folder, rank] of [
    [task, "0"],
    [`${task}-2`, "2"],
  ] as const) {
    const file = join(first.directory, "checkpoints", folder, "rank");
    await waitForFile(file);
    expect(readFileSync(file, "utf8")).toBe(`${rank}\n`);
  }
  await first.kill("SIGKILL");
  await using second = await startWorker(peer, first.directory);
  const listed = peer.hellos[1]?.liveAttempts.map((live) => live.attempt);
  expect(listed?.toSorted()).toEqual(names.toSorted());
  for (const name of names) {
    writeFileSync(join(second.directory, "attempts", name, "work", "go"), "");
    expect(endOf(await peer.report(name, "ended")).exitClass).toBe(ExitClass.OK);
  }
  // The gang may be tried again as a whole: what its members saved stays.
  await peer.until(() => readdirSync(join(second.directory, "attempts")).length === 0);
  expect(readdirSync(join(second.directory, "checkpoints")).toSorted()).toEqual(
    [task, `${task}-2`].flatMap((name) => [name, `${name}.epoch`]).toSorted(),
  );
});

test("a cut session is dialled again with what lives; what is not adopted is killed without a word", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const kept = peer.lease(shell("sleep 1000"));
  const lost = peer.lease(shell("sleep 1000"));
  await Promise.all([peer.report(kept, "running"), peer.report(lost, "running")]);
  peer.adopt = () => [kept];
  peer.cut();
  await peer.until(() => peer.hellos.length === 2);
  expect(peer.hellos[1]?.liveAttempts.map((live) => live.attempt).toSorted()).toEqual(
    [kept, lost].toSorted(),
  );
  const folder = join(worker.directory, "attempts");
  while (readdirSync(folder).includes(lost)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(kindsOf(peer, lost)).toEqual(["starting", "running"]);
  peer.stop(kept, ExitClass.CANCELLED, 0);
  expect(endOf(await peer.report(kept, "ended")).exitClass).toBe(ExitClass.CANCELLED);
});

test("without acknowledgements a task is stopped before its lease ends", async () => {
  await using peer = await startPeer();
  peer.leaseTtlMs = 4_000;
  peer.heartbeatMs = 60_000;
  await using _worker = await startWorker(peer, freshDirectory(), { leaseMarginMs: 500 });
  const leaseEndMs = Date.now() + peer.leaseTtlMs;
  const attempt = peer.lease(shell("sleep 1000"));
  await peer.report(attempt, "running");
  const ended = await peer.report(attempt, "ended");
  expect(endOf(ended).exitClass).toBe(ExitClass.NODE_LOST);
  const goneMs = Date.now() - Number(endOf(ended).processesGoneAgoMs);
  expect(goneMs).toBeLessThanOrEqual(leaseEndMs + 50);
});

test("nothing starts on a lease with too little time left", async () => {
  await using peer = await startPeer();
  peer.leaseTtlMs = 700;
  peer.heartbeatMs = 60_000;
  await using worker = await startWorker(peer, freshDirectory(), { leaseMarginMs: 500 });
  const attempt = peer.lease(shell("touch ran"));
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(ended.exitClass).toBe(ExitClass.NODE_LOST);
  expect(kindsOf(peer, attempt)).not.toContain("running");
  expect(existsSync(join(worker.directory, "attempts", attempt, "work", "ran"))).toBe(false);
});

test("a spec that forbids simulated GPUs is rejected on one; one that allows them is told", async () => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer, freshDirectory(), { simulatedGpus: 1 });
  expect(peer.hellos[0]?.gpus).toMatchObject([{ index: 0, simulated: true }]);
  const gpus = ["gpu-0"];
  const strict = peer.lease({ ...shell("true"), simulated: SimulatedPolicy.FORBID }, { gpus });
  expect(endOf(await peer.report(strict, "ended"))).toMatchObject({
    exitClass: ExitClass.REJECTED,
  });
  const told = peer.lease(shell('[ "$FASTGPU_GPU_SIMULATED" = 1 ]'), { gpus });
  expect(endOf(await peer.report(told, "ended")).exitClass).toBe(ExitClass.OK);
});

test("a range of an array ends with every leased index in exactly one class", async () => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer);
  const elements = [
    { first: 0, last: 9 },
    { first: 20, last: 24 },
  ];
  const attempt = peer.lease(shell('[ "$FASTGPU_ARRAY_INDEX" != 22 ]'), { elements, slots: 3 });
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(ended.exitClass).toBe(ExitClass.USER_EXIT);
  expect(ended.elements).toMatchObject([
    {
      exitClass: ExitClass.OK,
      ranges: [
        { first: 0, last: 9 },
        { first: 20, last: 21 },
        { first: 23, last: 24 },
      ],
    },
    { exitClass: ExitClass.USER_EXIT, ranges: [{ first: 22, last: 22 }] },
  ]);
});

test("logs are served in ranges, followed while the task runs, and end with it", async () => {
  await using peer = await startPeer();
  peer.ackReports = false;
  await using worker = await startWorker(peer);
  const attempt = peer.lease(
    shell("echo one; while [ ! -e go ]; do sleep 0.02; done; echo two >&2"),
  );
  await peer.report(attempt, "running");
  const ask = { attempt, maxBytes: 1_000, waitMs: 10_000 };
  const first = await peer.askLog({ ...ask, offset: 0n });
  expect(first.frames.map((f) => Buffer.from(f.data).toString())).toEqual(["one\n"]);
  const waiting = peer.askLog({ ...ask, offset: first.nextOffset });
  writeFileSync(join(worker.directory, "attempts", attempt, "work", "go"), "");
  const second = await waiting;
  expect(second.frames.map((f) => Buffer.from(f.data).toString())).toEqual(["two\n"]);
  await peer.report(attempt, "ended");
  const last = await peer.askLog({ ...ask, offset: second.nextOffset });
  expect(last).toMatchObject({ frames: [], end: true });
  const wrong = await peer.askLog({ ...ask, offset: 3n });
  expect(wrong.error).not.toBe("");
  const unknown = await peer.askLog({ ...ask, attempt: "att-x", offset: 0n });
  expect(unknown.error).not.toBe("");
});

test("a no-op worker ends a large range at once and says that it is simulated", async () => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer, freshDirectory(), { runtime: "noop" });
  expect(peer.hellos[0]?.runtimes).toContain("noop");
  const attempt = peer.lease(shell("true"), { elements: [{ first: 0, last: 999 }], slots: 100 });
  const ended = endOf(await peer.report(attempt, "ended"));
  expect(ended.elements).toMatchObject([{ ranges: [{ first: 0, last: 999 }] }]);
  const running = await peer.report(attempt, "running");
  expect(running.event.value).toMatchObject({ isolation: expect.stringContaining("simulated") });
});

test("a second worker on the same directory is refused", async () => {
  await using peer = await startPeer();
  await using first = await startWorker(peer);
  await expect(startWorker(peer, first.directory)).rejects.toThrow("ended with");
});

test.skipIf(skipReason !== undefined)(
  "a container task: inputs, outputs and log like a process's, nothing left of it afterwards",
  async () => {
    await using peer = await startPeer();
    if (address === undefined) throw new Error("no engine");
    using engine = openEngine(address);
    await engine.importImage(image, busyboxTar());
    await using worker = await startWorker(peer, freshDirectory(), {
      runtime: "auto",
      engine: address,
    });
    expect(peer.hellos[0]?.runtimes).toEqual(["process", "container"]);
    const script =
      'cat "$FASTGPU_INPUT_DIR/in"; echo result > "$FASTGPU_OUTPUT_DIR/out.txt"; echo x > "$PWD/other"';
    const command = ["/bin/sh", "-c", script];
    const inputs = [{ artifact: `projects/${project}/artifacts/art-9`, path: "in" }];
    const runtime = { case: "container", value: { image, command } } as const;
    const attempt = peer.lease({ runtime, inputs });
    const ended = endOf(await peer.report(attempt, "ended"));
    expect(ended).toMatchObject({ message: "", exitClass: ExitClass.OK });
    expect(peer.files.get("out.txt")?.content.toString()).toBe("result\n");
    expect(peer.manifests[0]?.length).toBe(1);
    await peer.until(() => readdirSync(join(worker.directory, "attempts")).length === 0);
    expect(await engine.inspect(attempt)).toBeUndefined();
    const missing = { case: "container", value: { image: "localhost/no-such" } } as const;
    const absent = peer.lease({ runtime: missing });
    expect(endOf(await peer.report(absent, "ended")).exitClass).toBe(ExitClass.REJECTED);
  },
);

test("figures of the node and its GPUs are published on the bus under the node's name", async () => {
  await using bus = createMemoryBus();
  const heard = new Promise<NodeSample>((resolve) => {
    bus.listen(signals.nodeSample, "*", resolve);
  });
  using gpus = createSimulatedGpus({ count: 2, seed: "s", load: () => 1 });
  using _samples = startSamples({
    bus,
    gpus,
    intervalMs: 10,
    log: createLogger({ service: "test", level: "silent" }),
    names: () => ({ node: "node-x", gpus: ["gpu-a", "gpu-b"] }),
  });
  const sample = await heard;
  expect(sample.node).toBe("node-x");
  expect(sample.gpus).toMatchObject([
    { gpu: "gpu-a", sample: { simulated: true, utilizationPercent: 90, xid: 0 } },
    { gpu: "gpu-b", index: 1 },
  ]);
});

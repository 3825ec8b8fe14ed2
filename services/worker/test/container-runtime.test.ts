import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bootMs } from "../src/boot-time.ts";
import { createKeeperClient } from "../src/keeper/client.ts";
import { attemptFiles } from "../src/keeper/files.ts";
import { countOf } from "../src/ranges.ts";
import type { Engine } from "../src/runtime/container/engine.ts";
import { openEngine } from "../src/runtime/container/open.ts";
import { createContainerRuntime } from "../src/runtime/container/runtime.ts";
import { ensurePodmanService } from "../src/runtime/container/service.ts";
import {
  type TestRuntime,
  farAhead,
  launchOf,
  logHas,
  logOf,
  makeFiles,
  observe,
} from "./harness.ts";
import { address, busyboxTar, image, serviceDir, skipReason } from "./container-image.ts";

function makeRuntime(files = makeFiles(), over = address): TestRuntime & { engine: Engine } {
  if (over === undefined) throw new Error("no engine");
  const keeper = createKeeperClient({ files, idleMs: 1_000 });
  const engine = openEngine(over);
  const runtime = createContainerRuntime({ files, keeper, engine });
  return { ...observe(files, keeper, runtime), engine };
}

function mayReadKernelLog(): boolean {
  try {
    closeSync(openSync("/dev/kmsg", "r"));
    return true;
  } catch {
    return false;
  }
}

let serial = 0;
const made: string[] = [];
/** Containers share one engine, so that each test needs a name of its own. */
function freshName(): string {
  const name = `att-test${process.pid}n${serial++}`;
  made.push(name);
  return name;
}

const sh = (script: string): string[] => ["/bin/sh", "-c", script];

describe.skipIf(skipReason !== undefined)("containers", () => {
  beforeAll(async () => {
    const { engine } = makeRuntime();
    await engine.importImage(image, busyboxTar());
  });
  afterAll(async () => {
    const { engine } = makeRuntime();
    for (const name of made) await engine.remove(name).catch(() => undefined);
    rmSync(serviceDir, { recursive: true, force: true });
  });

  test("a container's streams, exit code and lack of privileges are as promised", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const name = freshName();
    const script =
      "echo out; echo err >&2; cat /proc/self/uid_map; touch /x || echo read-only; ls /sys/class/net;" +
      "unshare -U true && echo escaped; exit 6";
    const started = await runtime.start(launchOf(name, sh(script), { image }), farAhead());
    expect(started).toMatchObject({ kind: "started", isolation: ["container", address?.kind] });
    expect(await t.exit(name)).toMatchObject({ cause: "exit", exitCode: 6, oom: false });
    const log = await logOf(t.files, name);
    const text = log.map((r) => r.text).join("");
    expect(log.filter((r) => r.stream === "stderr").map((r) => r.text)).toContain("err\n");
    expect(text).toContain("out\n");
    expect(text).toMatch(/ 0 +231072 +65536/);
    expect(text).toContain("read-only\n");
    expect(text).not.toContain("escaped");
    await runtime.remove(name);
    expect(await t.engine.inspect(name)).toBeUndefined();
  });

  test("starting the same attempt twice runs it once, also after a crash between the steps", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const name = freshName();
    const launch = launchOf(name, sh("echo ran; sleep 0.3"), { image });
    await runtime.start(launch, farAhead());
    const second = makeRuntime(t.files);
    expect((await second.runtime.start(launch, farAhead())).kind).toBe("started");
    await t.exit(name);
    expect((await logOf(t.files, name)).map((r) => r.text)).toEqual(["ran\n"]);
    await second.runtime[Symbol.asyncDispose]();
    await runtime.remove(name);
  });

  test("a missing image and a bad command are told apart", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const absent = launchOf(freshName(), ["true"], { image: "localhost/no-such-image" });
    expect(await runtime.start(absent, farAhead())).toMatchObject({
      exitClass: "rejected",
      message: expect.stringContaining("fastgpu image import"),
    });
    for (const program of ["/no/such/program", "no-such-program", "/etc"]) {
      const bad = launchOf(freshName(), [program], { image });
      expect(await runtime.start(bad, farAhead())).toMatchObject({ exitClass: "rejected" });
    }
  });

  test("a registry that does not answer may do so later: that is no rejection", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const silent = launchOf(freshName(), ["true"], { image: "127.0.0.1:1/some/image:1" });
    expect(await runtime.start(silent, farAhead())).toMatchObject({
      exitClass: "image",
      message: expect.stringContaining("127.0.0.1:1"),
    });
  });

  test("a stop signals, waits for the grace, then kills", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const polite = freshName();
    const stubborn = freshName();
    const wait = "while :; do sleep 0.05; done";
    await runtime.start(
      launchOf(polite, sh(`trap 'echo saved; exit 3' TERM; echo ready; ${wait}`), { image }),
      farAhead(),
    );
    await runtime.start(
      launchOf(stubborn, sh(`trap '' TERM; echo ready; ${wait}`), { image }),
      farAhead(),
    );
    await logHas(t, polite, "ready");
    await logHas(t, stubborn, "ready");
    const stop = { reason: "cancelled", signal: "SIGTERM" } as const;
    expect(await runtime.stop(polite, { ...stop, graceMs: 30_000 })).toBe(true);
    expect(await runtime.stop(stubborn, { ...stop, graceMs: 200 })).toBe(true);
    expect(await t.exit(polite)).toMatchObject({ cause: "stop", exitCode: 3 });
    expect(await t.exit(stubborn)).toMatchObject({ cause: "stop", exitCode: 137, oom: false });
    await logHas(t, polite, "saved");
  });

  test("the keeper ends a container at its lease's end, and its memory limit is told from a kill", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const leased = freshName();
    await runtime.start(launchOf(leased, ["/bin/sleep", "1000"], { image }), bootMs() + 6_000);
    expect((await t.exit(leased)).cause).toBe("lease");
    const hog = freshName();
    const limits = { cpuMillis: 0, memoryMib: 32, pids: 0 };
    await runtime.start(launchOf(hog, sh("tail /dev/zero; exit 1"), { image, limits }), farAhead());
    const outcome = await t.exit(hog);
    if (!mayReadKernelLog()) console.log("skipped: the kernel's log may not be read here");
    else expect(outcome.oom).toBe(true);
  });

  test("a container outlives its keeper and a new one goes on with its log", async () => {
    const t = makeRuntime();
    const name = freshName();
    const script = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 4";
    await t.runtime.start(launchOf(name, sh(script), { image }), farAhead());
    await logHas(t, name, "one");
    const keeper = execFileSync("pgrep", ["-f", `keeper/main.ts ${t.files.root}`], {
      encoding: "utf8",
    });
    await t.runtime[Symbol.asyncDispose]();
    process.kill(Number(keeper.trim()), "SIGKILL");
    const next = makeRuntime(t.files);
    await using runtime = next.runtime;
    expect(await runtime.list()).toEqual([{ name, outcome: undefined }]);
    writeFileSync(join(attemptFiles(t.files, name).work, "go"), "");
    expect(await next.exit(name)).toMatchObject({ cause: "exit", exitCode: 4 });
    expect((await logOf(t.files, name)).map((r) => r.text)).toEqual(["one\n", "two\n"]);
  });

  test("a container that ended while nobody watched is told of to whoever starts it again", async () => {
    const first = makeRuntime();
    const name = freshName();
    const launch = launchOf(name, sh("exit 9"), { image });
    await first.runtime.start(launch, farAhead());
    await first.exit(name);
    await first.runtime[Symbol.asyncDispose]();
    const t = makeRuntime(first.files);
    await using runtime = t.runtime;
    expect(await runtime.list()).toMatchObject([{ name, outcome: { exitCode: 9 } }]);
    expect((await runtime.start(launch, farAhead())).kind).toBe("started");
    expect(await t.exit(name)).toMatchObject({ cause: "exit", exitCode: 9 });
  });

  test("a promised device is there before the task's first instruction; an unknown one is refused", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const unknown = launchOf(freshName(), ["true"], { image, devices: ["fastgpu.test/gpu=none"] });
    expect(await runtime.start(unknown, farAhead())).toMatchObject({ exitClass: "start_failed" });
    if (process.getuid?.() !== 0) {
      console.log("skipped: making a device node needs root");
      return;
    }
    const node = "/dev/fastgpu-test0";
    spawnSync("mknod", ["-m", "666", node, "c", "1", "3"]);
    mkdirSync("/var/run/cdi", { recursive: true });
    const spec = "/var/run/cdi/fastgpu-test.json";
    const devices = [{ name: "0", containerEdits: { deviceNodes: [{ path: node }] } }];
    writeFileSync(spec, JSON.stringify({ cdiVersion: "0.3.0", kind: "fastgpu.test/gpu", devices }));
    try {
      const name = freshName();
      const launch = launchOf(name, ["/bin/ls", node], { image, devices: ["fastgpu.test/gpu=0"] });
      expect(await runtime.start(launch, farAhead())).toMatchObject({ kind: "started" });
      expect((await t.exit(name)).exitCode).toBe(0);
    } finally {
      rmSync(spec);
      rmSync(node);
    }
  });

  test("a range runs in lanes inside one container", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const name = freshName();
    const array = { ranges: [[3, 13]] as const, slots: 2 };
    const script = "echo $FASTGPU_ARRAY_INDEX; [ $FASTGPU_ARRAY_INDEX != 5 ]";
    await runtime.start(launchOf(name, sh(script), { image, array }), farAhead());
    const { elements } = await t.exit(name);
    expect(countOf(elements?.ok ?? [])).toBe(9);
    expect(elements?.userExit).toEqual([[5, 6]]);
  });

  test("progress lines come out of a container through its file", async () => {
    const t = makeRuntime();
    await using runtime = t.runtime;
    const name = freshName();
    const script = `echo '{"step":1}' >> $FASTGPU_PROGRESS_FILE`;
    await runtime.start(launchOf(name, sh(script), { image }), farAhead());
    await t.exit(name);
    expect(t.events.filter((e) => e.kind === "progress").map((e) => e.line)).toEqual([
      '{"step":1}',
    ]);
    expect(readFileSync(attemptFiles(t.files, name).progress, "utf8")).toBe('{"step":1}\n');
  });

  test("Docker's API does the same work: streams, exit, stop, missing image", async () => {
    // Podman serves Docker's API too, at the same socket.
    if (address?.kind === "podman") await ensurePodmanService(address.socket);
    const docker = { kind: "docker", socket: address?.socket ?? "" } as const;
    const t = makeRuntime(makeFiles(), docker);
    await using runtime = t.runtime;
    const name = freshName();
    const script = "echo out; echo err >&2; touch /x || exit 6";
    expect(await runtime.start(launchOf(name, sh(script), { image }), farAhead())).toMatchObject({
      kind: "started",
      isolation: ["container", "docker"],
    });
    expect(await t.exit(name)).toMatchObject({ cause: "exit", exitCode: 6 });
    const log = await logOf(t.files, name);
    expect(log.filter((r) => r.stream === "stdout").map((r) => r.text)).toEqual(["out\n"]);
    expect(log.filter((r) => r.stream === "stderr").map((r) => r.text)).toContain("err\n");
    const stopped = freshName();
    const wait = "echo ready; while :; do sleep 0.05; done";
    await runtime.start(
      launchOf(stopped, sh(`trap 'exit 3' TERM; ${wait}`), { image }),
      farAhead(),
    );
    await logHas(t, stopped, "ready");
    await runtime.stop(stopped, { reason: "cancelled", signal: "SIGTERM", graceMs: 30_000 });
    expect(await t.exit(stopped)).toMatchObject({ cause: "stop", exitCode: 3 });
    const absent = launchOf(freshName(), ["true"], { image: "localhost/no-such-image" });
    expect(await runtime.start(absent, farAhead())).toMatchObject({ exitClass: "rejected" });
    const silent = launchOf(freshName(), ["true"], { image: "127.0.0.1:1/some/image" });
    expect(await runtime.start(silent, farAhead())).toMatchObject({ exitClass: "image" });
    await runtime.remove(name);
    expect(await t.engine.inspect(name)).toBeUndefined();
  });
});

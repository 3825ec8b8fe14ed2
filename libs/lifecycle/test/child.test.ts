import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { createLogger } from "@fastgpu/telemetry/log";
import { afterAll, expect, test } from "vitest";
import { endLeftovers, findProcesses, freePort, processInfo, startChild } from "../src/child.ts";
import type { ChildOptions } from "../src/child.ts";
import { closedParent } from "../src/reach.ts";
import { sleep, stopOnProcessSignals, stopReason } from "../src/signals.ts";

const log = createLogger({ service: "test", level: "silent" });
const directory = await mkdtemp(join(tmpdir(), "fastgpu-child-"));
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A shell program that says it is ready by writing its pid. */
function program(
  script: string,
  more: Partial<ChildOptions> = {},
): ChildOptions & { readyFile: string } {
  const name = `p${Math.floor(performance.now() * 1e6)}`;
  const readyFile = join(directory, `${name}.ready`);
  return {
    readyFile,
    name,
    command: "/bin/sh",
    args: ["-c", script, readyFile],
    env: { PATH: "/usr/bin:/bin" },
    logFile: join(directory, `${name}.log`),
    log,
    prepare: () => rm(readyFile, { force: true }),
    isReady: (pid) =>
      readFile(readyFile, "utf8").then(
        (text) => Number(text) === pid,
        () => false,
      ),
    readyTimeoutMs: 20_000,
    stopSignals: [{ signal: "SIGTERM", waitMs: 5_000 }],
    ...more,
  };
}

// One process, so that what /proc shows of it does not change while it forks.
const serve = 'echo $$ > "$0"; exec tail -f "$0"';
const serveInShell = 'echo $$ > "$0"; while :; do sleep 0.05; done';
const gone = (pid: number): boolean => processInfo(pid) === undefined;

test("a child that is killed is started again; stopped, it stays away", async () => {
  const child = await startChild(program(serve));
  const before = child.pid;
  process.kill(before, "SIGKILL");
  while (child.pid === before) await sleep(5, new AbortController().signal);
  expect(child.restarts).toBe(1);
  const after = child.pid;
  await child.stop();
  await child.stop();
  expect([gone(before), gone(after)]).toEqual([true, true]);
});

test("a child that does not start fails with the end of its own log", async () => {
  const error: unknown = await startChild(program("echo port 5432 is taken >&2; exit 3")).catch(
    (e: unknown) => e,
  );
  if (!(error instanceof Fault)) throw new Error("not a fault");
  expect(error.message).toContain("exit code 3");
  expect(error.message).toContain("port 5432 is taken");
});

test("a child that never becomes ready is ended", async () => {
  const options = program('echo $$ > "$0.pid"; while :; do sleep 0.05; done', {
    readyTimeoutMs: 300,
  });
  await expect(startChild(options)).rejects.toThrow(/not ready after 300 ms/);
  expect(gone(Number(await readFile(`${options.readyFile}.pid`, "utf8")))).toBe(true);
});

test("a child that ignores its stop signals is killed", async () => {
  const child = await startChild(
    program(`trap '' TERM; ${serveInShell}`, { stopSignals: [{ signal: "SIGTERM", waitMs: 100 }] }),
  );
  const { pid } = child;
  await child.stop();
  expect(gone(pid)).toBe(true);
});

test("a program that is not there is a fault that names it", async () => {
  await expect(startChild(program(serve, { command: "/none/server" }))).rejects.toThrow(
    /\/none\/server/,
  );
});

test("leftovers are found by what they are, and ended", async () => {
  const options = program(serve);
  const child = await startChild(options);
  const mine = (info: { args: readonly string[] }): boolean =>
    info.args.includes(options.readyFile);
  expect(findProcesses(mine).map((info) => info.pid)).toEqual([child.pid]);
  // The supervisor starts it again: ending leftovers is for those of a dead platform.
  const first = child.pid;
  expect(
    await endLeftovers(
      (info) => info.pid === first && mine(info),
      [{ signal: "SIGTERM", waitMs: 5_000 }],
    ),
  ).toBe(1);
  expect(gone(first)).toBe(true);
  await child.stop();
  expect(findProcesses(mine)).toEqual([]);
});

test("a free port is free, and none that an outgoing connection gets", async () => {
  const port = await freePort(3);
  const [least] = (await readFile("/proc/sys/net/ipv4/ip_local_port_range", "utf8")).split(/\s+/);
  expect(port + 2).toBeLessThan(Number(least));
  expect(port).toBeGreaterThan(1_023);
});

test("the first directory that a user may not enter", async () => {
  const { chmod, mkdir } = await import("node:fs/promises");
  const closed = join(directory, "a", "closed");
  await mkdir(join(closed, "inner"), { recursive: true });
  await chmod(directory, 0o755);
  await chmod(closed, 0o700);
  await writeFile(join(closed, "file"), "");
  const stranger = { uid: 65533, gid: 65533 };
  expect(await closedParent(join(closed, "inner", "not", "there"), stranger)).toBe(closed);
  expect(await closedParent(join(directory, "a", "open"), stranger)).toBeUndefined();
  expect(await closedParent(closed, { uid: process.getuid?.() ?? 0, gid: 0 })).toBeUndefined();
});

test("the first signal stops, the second is for the impatient; listeners go with the scope", () => {
  const listeners = new Map<string, () => void>();
  let forced = 0;
  const source = {
    on: (event: string, listener: () => void) => listeners.set(event, listener),
    off: (event: string) => listeners.delete(event),
  };
  {
    using signals = stopOnProcessSignals({ source, onSecond: () => (forced += 1) });
    listeners.get("SIGINT")?.();
    expect(stopReason(signals.stop)).toBe("shutdown");
    expect(forced).toBe(0);
    listeners.get("SIGTERM")?.();
    expect(forced).toBe(1);
  }
  expect(listeners.size).toBe(0);
  expect(stopReason(AbortSignal.abort(new DOMException("late", "TimeoutError")))).toBe("deadline");
  expect(stopReason(AbortSignal.abort())).toBe("caller");
  expect(stopReason(new AbortController().signal)).toBeUndefined();
});

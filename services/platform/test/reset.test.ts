import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { findProcesses, freePort } from "@fastgpu/lifecycle/child";
import { expect, test } from "vitest";
import { openDataDir } from "../src/data-dir.ts";
import { resetDataDir } from "../src/reset.ts";
import { startComposed } from "./composed-child.ts";
import { openDirectory } from "./harness.ts";

test("emptying what a killed platform left ends its servers too", async () => {
  const directory = await openDirectory("fastgpu-reset-");
  const dataDir = join(directory, "data");
  const [gateway, workers, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
  const { child } = await startComposed({
    ...{ dataDir, runtime: "process", logLevel: "fatal", workers: 1, simulatedGpus: 1 },
    ports: { gateway, workers, metrics },
    env: { PATH: process.env["PATH"], HOME: directory },
  });
  await expect(resetDataDir(dataDir)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  const killed = once(child, "exit");
  child.kill("SIGKILL");
  await killed;

  await resetDataDir(dataDir);
  expect(await readdir(dataDir)).toEqual([]);
  const left = findProcesses(({ args, cwd }) =>
    [...args, cwd].some((at) => at.startsWith(directory)),
  );
  expect(left).toEqual([]);
  await rm(directory, { recursive: true, force: true });
}, 120_000);

test("a data directory too deep for a socket's path has its sockets elsewhere, for as long as it is open", async () => {
  const directory = await openDirectory("fastgpu-deep-");
  const dataDir = join(directory, "deep".repeat(20), "data");
  const open = async () => {
    using data = await openDataDir(dataDir);
    expect(existsSync(data.sockets)).toBe(true);
    return data.sockets;
  };
  const sockets = await open();
  expect(sockets.startsWith(directory)).toBe(false);
  expect(existsSync(sockets)).toBe(false);
  expect(await open()).toBe(sockets);
  await rm(directory, { recursive: true, force: true });
});

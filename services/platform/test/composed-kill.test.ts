import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "@fastgpu/lifecycle/child";
import { expect, test } from "vitest";
import { startComposed } from "./composed-child.ts";
import { begun, checkOutcome, effectsFile, submitAll, taskCount, type Victim } from "./effects.ts";
import { openClients, openDirectory, shortLeases } from "./harness.ts";

test("the whole platform in one process, killed with SIGKILL three times: every acknowledged task ends exactly once", async () => {
  await using stack = new AsyncDisposableStack();
  const directory = await openDirectory("fastgpu-composed-");
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const [gateway, workers, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
  const start = () =>
    startComposed({
      dataDir: join(directory, "data"),
      ports: { gateway, workers, metrics },
      ...{ workers: 2, simulatedGpus: 2, runtime: "process", logLevel: "fatal" },
      env: { PATH: process.env["PATH"], HOME: directory, ...shortLeases },
    });
  let current = await start();
  stack.defer(async () => {
    const ended = once(current.child, "exit");
    current.child.stdin?.end();
    await ended;
  });
  const { org, project, address } = current.reach;
  const clients = openClients(current.reach);
  stack.defer(() => clients.close());
  const p: Victim = {
    ...clients,
    directory,
    get platform() {
      return current.reach;
    },
  };
  const file = await effectsFile(p);
  const names = submitAll(p, file, 60);
  for (const part of [0.2, 0.45, 0.7]) {
    await begun(file, taskCount * part);
    const killed = once(current.child, "exit");
    current.child.kill("SIGKILL");
    expect((await killed)[1]).toBe("SIGKILL");
    current = await start();
    // The key was shown once; the data are the same.
    expect(current.reach).toMatchObject({ org, project, address });
    expect(current.reach.firstKey).toBeUndefined();
  }
  await checkOutcome(p, await names, file);
}, 300_000);

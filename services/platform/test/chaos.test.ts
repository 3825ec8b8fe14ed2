import { expect, test } from "vitest";
import { eventually } from "@fastgpu/testkit/signals";
import { checkOutcome, effectsFile, submitAll } from "./effects.ts";
import { shortLeases, testPlatform } from "./harness.ts";

test("services and workers apart, each killed with SIGKILL in turn: every acknowledged task ends exactly once", async () => {
  await using p = await testPlatform({ split: true, workers: 2, env: shortLeases });
  const file = await effectsFile(p);
  const names = submitAll(p, file, 60);
  for (const victim of [
    "scheduler",
    "billing",
    "worker-1",
    "auth",
    "storage",
    "gateway",
    "monitor",
    "worker-2",
  ]) {
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const pid = p.platform.pids().get(victim);
    expect(pid, victim).toBeDefined();
    process.kill(pid ?? 0, "SIGKILL");
  }
  await checkOutcome(p, await names, file);
}, 300_000);

test("database and broker killed under load, the broker's store wiped: nothing acknowledged is lost", async () => {
  await using p = await testPlatform({ split: true, workers: 2, env: shortLeases });
  const file = await effectsFile(p);
  const names = submitAll(p, file, 40);
  for (const victim of ["postgres", "nats", "postgres"] as const) {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await eventually(`${victim} is there to be killed`, () => {
      try {
        return process.kill(p.platform.backingPids()[victim], "SIGKILL");
      } catch {
        // It is still being started after the kill before.
        return false;
      }
    });
  }
  await checkOutcome(p, await names, file);
}, 300_000);

import { expect, test } from "vitest";
import { startKillable } from "./composed-child.ts";
import { begun, checkOutcome, effectsFile, submitAll, taskCount } from "./effects.ts";

test("the whole platform in one process, killed with SIGKILL three times: every acknowledged task ends exactly once", async () => {
  await using p = await startKillable("fastgpu-composed-", { workers: 2, simulatedGpus: 2 });
  const { org, project, address } = p.platform;
  const file = await effectsFile(p);
  const names = submitAll(p, file, 60);
  for (const part of [0.2, 0.45, 0.7]) {
    await begun(file, taskCount * part);
    await p.killAndRestart();
    // The key was shown once; the data are the same.
    expect(p.platform).toMatchObject({ org, project, address });
    expect(p.platform.firstKey).toBeUndefined();
  }
  await checkOutcome(p, await names, file);
}, 300_000);

/**
 * The platform in a process of its own, so that an experiment can kill it: `node pipeline-platform.ts JSON`. Prints one
 * line of JSON when it is ready and stops when its standard input ends.
 */
import { once } from "node:events";
import { join } from "node:path";
import { startPlatform } from "@fastgpu/platform/platform";
import type { PlatformSetting, StartedPlatform } from "./pipeline-setting.ts";

const setting = JSON.parse(process.argv[2] ?? "{}") as PlatformSetting;
const platform = await startPlatform({
  dataDir: join(setting.directory, "data"),
  ports: setting.ports,
  runtime: setting.runtime,
  simulatedGpus: setting.gpus,
  split: setting.split,
  workers: setting.workers,
  logLevel: "error",
  sections:
    setting.cpuMillis === undefined
      ? {}
      : { worker: { cpuMillis: setting.cpuMillis, memoryMib: setting.cpuMillis } },
  env: { PATH: process.env["PATH"], HOME: setting.directory },
});
const told: StartedPlatform = {
  address: platform.address,
  sockets: join(platform.dataDir, "run"),
  firstKey: platform.firstKey,
  project: platform.project,
  auditorUrl: platform.auditorUrl,
  adminUrl: platform.adminUrl,
  pids: [...platform.pids().values(), platform.backingPids().postgres, platform.backingPids().nats],
};
process.stdout.write(`${JSON.stringify(told)}\n`);
process.stdin.resume();
// A terminated experiment must not leave a database and a broker behind.
await Promise.race([once(process.stdin, "end"), once(process, "SIGTERM"), once(process, "SIGINT")]);
await platform.stop();
process.exit(0);

import { readFile } from "node:fs/promises";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { manualClock } from "@fastgpu/testkit/clock";
import { storageConfig } from "../src/config.ts";
import { main } from "../src/main.ts";

/** Runs the service as a process of its own, for the test that kills it: `node storage-process.ts CONFIG.json`. */
const config = storageConfig.parse(JSON.parse(await readFile(process.argv[2] ?? "", "utf8")));
await main(config, {
  stop: new AbortController().signal,
  ready: () => process.send?.("ready"),
  log: createLogger({ service: "storage", level: "warn" }),
  clock: manualClock(),
  tracing: passiveTracing,
});

import { wallClock } from "@fastgpu/lifecycle/clock";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { workerConfig } from "../src/config.ts";
import { main } from "../src/main.ts";

// Run as a program: one worker with the settings of its argument, until SIGTERM or SIGKILL.
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
await main(workerConfig.parse(JSON.parse(process.argv[2] ?? "{}")), {
  stop: stop.signal,
  ready: () => console.log("ready"),
  log: createLogger({ service: "worker", level: process.env["LOG_LEVEL"] ?? "silent" }),
  clock: wallClock,
  tracing: passiveTracing,
});
process.exit(0);

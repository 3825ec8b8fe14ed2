import { startPlatform, type PlatformOptions } from "../src/platform.ts";
import type { Reachable } from "./harness.ts";

// A whole platform in this one process, for tests that kill it: takes its options as JSON, answers with one line of
// JSON once it serves, and ends when its standard input does.

/** Options of this program. */
export type ComposedOptions = Pick<
  PlatformOptions,
  "dataDir" | "ports" | "workers" | "simulatedGpus" | "runtime" | "env" | "logLevel"
>;

const options = JSON.parse(process.argv[2] ?? "{}") as ComposedOptions;
const platform = await startPlatform(options);
const { address, firstKey, project, org, auditorUrl, dataDir } = platform;
const told: Reachable = { address, firstKey, project, org, auditorUrl, dataDir };
process.stdout.write(`${JSON.stringify(told)}\n`);
process.stdin.resume();
await Promise.race([new Promise((resolve) => process.stdin.once("end", resolve)), platform.done]);
await platform.stop();

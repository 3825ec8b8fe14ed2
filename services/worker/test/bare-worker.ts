import { bootMs } from "../src/boot-time.ts";
import { workerFiles } from "../src/keeper/files.ts";
import { launchOf, makeProcessRuntime } from "./harness.ts";

// Run as a program: starts one attempt, says so and waits to be killed.
const [root, script, leaseMs] = process.argv.slice(2);
if (root === undefined || script === undefined) throw new Error("usage: ROOT SCRIPT LEASE_MS");
const { runtime } = makeProcessRuntime(workerFiles(root));
const launch = launchOf("att-a", ["/bin/sh", "-c", script]);
const started = await runtime.start(launch, bootMs() + Number(leaseMs));
console.log(JSON.stringify(started));
setInterval(() => undefined, 1_000);

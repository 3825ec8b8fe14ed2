import { readFileSync, watch } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { processInfo } from "@fastgpu/lifecycle/child";
import { aborted, sleep, stopOnProcessSignals } from "@fastgpu/lifecycle/signals";
import { startPlatform, type Platform } from "@fastgpu/platform/platform";
import { serviceNames, type ServiceName } from "@fastgpu/platform/services";
import { createLogger } from "@fastgpu/telemetry/log";
import { otlpUrlOf } from "@fastgpu/telemetry/tracing";
import { configPath } from "../clients/cli/src/config/file.ts";
import { keepOwnContext, ownContext } from "../clients/cli/src/config/own-platform.ts";
import { portHolder } from "../clients/cli/src/doctor/port-holder.ts";
import { changedModules, modulesOf, type Modules } from "./dev/imports.ts";

/**
 * `npm run dev`: the platform with each service in a process of its own; a service is started again when a module that
 * it loads changes. Data stays in .fastgpu-dev. Ctrl-C ends everything.
 */
const root = fileURLToPath(new URL("..", import.meta.url));
/** Editors write a file in several steps, and people save several files. */
const settleMs = 200;
/** A service that has not come up by then is told of. */
const failureMs = 4_000;

const usage = `npm run dev -- [--data DIR] [--port N] [--workers N] [--gpus N] [--runtime LIST]\n`;

/** What each service loads, from the program that runs it. */
function modulesByService(): Map<ServiceName, Modules> {
  const shared = ["run-service", "settings"].map((name) =>
    join(root, `services/platform/src/${name}.ts`),
  );
  return new Map(
    serviceNames.map((name) => {
      const own = ["main", "config"].map((file) => join(root, `services/${name}/src/${file}.ts`));
      // The list of services names every main: what only the others load is not this one's business.
      const others = serviceNames.filter((other) => other !== name);
      const foreign = others.map((other) => join(root, "services", other));
      return [name, modulesOf(root, [...own, ...shared], foreign)];
    }),
  );
}

function say(text: string): void {
  process.stdout.write(`${new Date().toTimeString().slice(0, 8)} ${text}\n`);
}

/** The last error in a service's log. */
function lastError(path: string): string {
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.findLast((line) => /^\w*(Error|Fault)\b.*:/.test(line)) ?? "it gives no reason";
}

/** Ends one process by a signal; the platform starts it again. Resolves when the next run answers. */
async function restart(platform: Platform, as: string, stop: AbortSignal): Promise<void> {
  const pid = platform.pids().get(as);
  if (pid === undefined) return;
  const startedMs = performance.now();
  // Between two runs there is nobody to tell: the next one reads the new text by itself.
  if (processInfo(pid) !== undefined) process.kill(pid, "SIGTERM");
  const failing = setTimeout(() => {
    const log = join(platform.dataDir, "log", `${as}.log`);
    say(`  ${as} does not come up: ${lastError(log)}\n  see ${log}; the next change is tried too`);
  }, failureMs);
  while (platform.pids().get(as) === pid && !stop.aborted) await sleep(50, stop);
  clearTimeout(failing);
  if (!stop.aborted)
    say(`  ${as} serves again after ${Math.round(performance.now() - startedMs)} ms`);
}

/** Compares what each service loads with what it loaded, and restarts those that would load something else. */
async function restartChanged(
  platform: Platform,
  known: Map<ServiceName, Modules>,
  stop: AbortSignal,
): Promise<void> {
  const restarts: Promise<void>[] = [];
  for (const [name, modules] of modulesByService()) {
    const changed = changedModules(known.get(name) ?? new Map(), modules);
    if (changed.length === 0) continue;
    known.set(name, modules);
    const instances = [...platform.pids().keys()].filter((as) => as.replace(/-\d+$/, "") === name);
    const [first = "", ...others] = changed.map((path) => relative(root, path));
    const more = others.length === 0 ? "" : ` and ${others.length} more`;
    say(`${first}${more} changed: restarting ${instances.join(", ")}`);
    restarts.push(...instances.map((as) => restart(platform, as, stop)));
  }
  await Promise.all(restarts);
}

/** Watches the sources until `stop`; changes while services come up are looked at afterwards. */
async function watchSources(platform: Platform, stop: AbortSignal): Promise<void> {
  const known = modulesByService();
  let changed = Promise.withResolvers<void>();
  const onChange = (folder: string) => (_event: string, file: string | null) => {
    const path = `${folder}/${file ?? ""}`;
    if (/^[^/]+\/[^/]+\/migrations\/.*\.sql$/.test(path)) {
      say(`${path} changed: end this and start it again, migrations are applied at the start`);
    }
    if (/^[^/]+\/[^/]+\/src\/.*\.ts$/.test(path) && !path.endsWith(".test.ts")) changed.resolve();
  };
  using watchers = new DisposableStack();
  for (const folder of ["libs", "services"]) {
    const watcher = watch(join(root, folder), { recursive: true }, onChange(folder));
    watchers.adopt(watcher, (each) => each.close());
  }
  const stopped = aborted(stop);
  for (;;) {
    await Promise.race([changed.promise, stopped]);
    await sleep(settleMs, stop);
    if (stop.aborted) return;
    changed = Promise.withResolvers<void>();
    await restartChanged(platform, known, stop);
  }
}

/** Tells where the platform is and keeps its key where `fastgpu` looks for it. */
function introduce(platform: Platform, port: number): void {
  const { address, dataDir, firstKey, org, project } = platform;
  const path = configPath(process.env);
  const kept = ownContext(path, dataDir);
  if (firstKey !== undefined || kept !== undefined) {
    const ids = { organization: `organizations/${org}`, project: `projects/${project}` };
    const key = firstKey ?? kept?.context.key;
    const name = keepOwnContext(path, dataDir, {
      ...{ address, ...ids },
      ...(key === undefined ? {} : { key }),
    });
    say(`fastgpu uses it as context "${name}" (${path})`);
  }
  say(`API and console at http://127.0.0.1:${port}/, logs in ${join(dataDir, "log")}`);
  say(
    "a service is restarted when its sources or those of a library it uses change; Ctrl-C ends all",
  );
}

const { values } = parseArgs({
  options: {
    data: { type: "string", default: join(root, ".fastgpu-dev") },
    port: { type: "string", default: "7600" },
    workers: { type: "string", default: "1" },
    gpus: { type: "string", default: "2" },
    runtime: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const port = Number(values.port);
const ports = { gateway: port, workers: port + 1, metrics: port + 2 };
for (const each of Object.values(ports)) {
  const holder = await portHolder(each);
  if (holder === undefined) continue;
  process.stderr.write(`error: port ${each} is taken by ${holder}\ntry: ${usage}`);
  process.exit(69);
}
using signals = stopOnProcessSignals({ source: process, onSecond: () => process.exit(130) });
const platform = await startPlatform({
  dataDir: values.data,
  ports,
  split: true,
  workers: Number(values.workers),
  simulatedGpus: Number(values.gpus),
  runtime: values.runtime,
  logLevel: process.env["FASTGPU_LOG_LEVEL"] ?? "info",
  // A service that ends and comes again is what this is for, and told here in other words.
  log: createLogger({ service: "platform", level: "fatal" }),
  otlpUrl: otlpUrlOf(process.env),
  env: process.env,
  onProgress: (step) => say(`starting: ${step}`),
});
try {
  introduce(platform, port);
  const failed = platform.done.then(() => new Promise<never>(() => undefined));
  await Promise.race([watchSources(platform, signals.stop), failed]);
} finally {
  say("stopping");
  await platform.stop();
}

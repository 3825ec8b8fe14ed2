import { spawn } from "node:child_process";
import { dirname, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { Fault } from "@fastgpu/domain/fault";
import { configPath } from "../config/file.ts";
import { forgetOwnContext } from "../config/own-platform.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { progressLine } from "../output/progress-line.ts";
import { defaultDataDir } from "./data-dir.ts";
import { showPlatform } from "./start.ts";

// The one place where the command line meets services/platform. Each part is loaded when it is
// asked for: most commands never need it.

/** Simulated GPUs of a platform on a machine without real ones. */
const SIMULATED_GPUS = 2;

const GATEWAY_PORT = 7600;

/** `start` */
export async function start(
  context: CliContext,
  options: {
    once?: boolean;
    data?: string;
    config?: string;
    split?: boolean;
    gpus?: number;
    runtime?: string;
    port?: number;
    workers?: number;
    stopTasks?: boolean;
  },
): Promise<number> {
  const startedMs = context.nowMs();
  const signal = context.interruptible();
  const port = options.port ?? GATEWAY_PORT;
  const ports = { gateway: port, workers: port + 1, metrics: port + 2 };
  await refuseTakenPorts(Object.values(ports));
  const { startPlatform } = await import("@fastgpu/platform/platform");
  const { mergeSections, readSections } = await import("@fastgpu/platform/settings");
  const { otlpUrlOf } = await import("@fastgpu/telemetry/tracing");
  const own = options.config === undefined ? {} : await readSections(options.config);
  const sections =
    options.stopTasks === true ? mergeSections(own, { worker: { stopTasks: true } }) : own;
  const line = progressLine(context.terminal, "starting");
  let platform: Awaited<ReturnType<typeof startPlatform>>;
  try {
    platform = await startPlatform({
      dataDir: options.data ?? defaultDataDir(context.env),
      ports,
      split: options.split === true,
      workers: options.workers,
      simulatedGpus: options.gpus ?? SIMULATED_GPUS,
      runtime: options.runtime,
      // The operator's key lies there.
      hidePaths: [resolve(dirname(configPath(context.env)))],
      sections,
      logLevel: context.env["FASTGPU_LOG_LEVEL"],
      otlpUrl: otlpUrlOf(context.env),
      env: context.env,
      onProgress: (step) => line.say(`starting: ${step}`),
    });
  } finally {
    line[Symbol.dispose]();
  }
  const { address, dataDir, firstKey, org, project } = platform;
  const failed = platform.done.then(() => new Promise<never>(() => undefined));
  return await showPlatform(
    context,
    {
      address,
      dataDir,
      firstKey:
        firstKey === undefined
          ? undefined
          : { key: firstKey, organization: `organizations/${org}`, project: `projects/${project}` },
      failed,
      stop: () => platform.stop(),
    },
    { startedMs, once: options.once === true, stopsTasks: options.stopTasks === true, signal },
  );
}

/** A taken port is better told of before the database runs, and with who has it. */
async function refuseTakenPorts(ports: readonly number[]): Promise<void> {
  const { portHolder } = await import("../doctor/port-holder.ts");
  for (const port of ports) {
    const holder = await portHolder(port);
    if (holder === undefined) continue;
    throw new CliError(`port ${port} is taken`, {
      why: `it is held by ${holder}`,
      hint: `end that, or --port N takes N, N + 1 and N + 2 in place of ${ports.join(", ")}`,
      exitCode: exitCodes.unavailable,
    });
  }
}

/** `service NAME` */
export async function service(
  context: CliContext,
  options: { config?: string; set?: Record<string, string> },
  name: string,
): Promise<void> {
  const { isServiceName, serviceNames } = await import("@fastgpu/platform/services");
  if (!isServiceName(name)) {
    const { nearest } = await import("@fastgpu/lifecycle/nearest");
    const close = nearest(name, serviceNames);
    throw new CliError(`there is no service "${name}"`, {
      why: `there are ${serviceNames.join(", ")}`,
      ...(close === undefined ? {} : { hint: `fastgpu service ${close}` }),
    });
  }
  const { serviceMain } = await import("@fastgpu/platform/service-main");
  const settings = Object.entries(options.set ?? {}).map(([key, value]) => [
    variableOf(name, key),
    value,
  ]);
  await serviceMain({
    name,
    config: options.config,
    env: { ...context.env, ...Object.fromEntries(settings) },
  });
}

/** `joinToken` of the worker as the variable FASTGPU_WORKER__JOIN_TOKEN. */
function variableOf(name: string, key: string): string {
  const words = key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).replaceAll(".", "__");
  return `FASTGPU_${name}__${words}`.toUpperCase();
}

/** `migrate` */
export async function migrate(context: CliContext, options: { data?: string }): Promise<void> {
  const { openDataDir, databaseServices } = await import("@fastgpu/platform/data-dir");
  const { startDatabase } = await import("@fastgpu/platform/embedded/postgres");
  const { migrateAll } = await import("@fastgpu/platform/platform");
  const { createLogger } = await import("@fastgpu/telemetry/log");
  const log = createLogger({ service: "migrate", level: "warn" });
  using data = await openDataDir(options.data ?? defaultDataDir(context.env));
  await using database = await startDatabase({
    dataDir: data.path,
    services: databaseServices,
    password: data.password,
    log,
  });
  const applied = await migrateAll(database, log);
  const what =
    applied === 0 ? "nothing to do" : `${applied} migration${applied === 1 ? "" : "s"} applied`;
  context.terminal.err(`${data.path}: ${what}\n`);
}

/** `reset` */
export async function reset(
  context: CliContext,
  options: { data?: string; yes?: boolean },
): Promise<number> {
  const { terminal, env } = context;
  const dataDir = options.data ?? defaultDataDir(env);
  if (options.yes !== true && process.stdin.isTTY && terminal.errIsTty) {
    const line = createInterface({ input: process.stdin, output: process.stderr });
    const answer = await line.question(`Remove all tasks, files and bills in ${dataDir}? [y/N] `);
    line.close();
    if (!/^y(es)?$/i.test(answer.trim())) {
      terminal.err("nothing is changed\n");
      return exitCodes.interrupted;
    }
  }
  const { resetDataDir } = await import("@fastgpu/platform/reset");
  await resetDataDir(dataDir);
  const forgotten = forgetOwnContext(configPath(env), dataDir);
  terminal.err(
    `${dataDir} is empty${forgotten === undefined ? "" : `, context ${forgotten} is removed`}\n`,
  );
  return exitCodes.ok;
}

/** `db psql SERVICE` */
export async function psql(
  context: CliContext,
  options: { data?: string },
  name: string,
): Promise<number> {
  const { databaseUrl } = await import("@fastgpu/platform/database-url");
  const url = await databaseUrl(options.data ?? defaultDataDir(context.env), name);
  const child = spawn("psql", [url], { stdio: "inherit" });
  return await new Promise<number>((resolve, reject) => {
    child.once("exit", (code) => resolve(code ?? exitCodes.interrupted));
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") return reject(Fault.from(error));
      context.terminal.err("psql is not installed here; any client of Postgres takes this:\n");
      context.terminal.out(`${url}\n`);
      resolve(exitCodes.ok);
    });
  });
}

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { endLeftovers, startChild, type Child } from "@fastgpu/lifecycle/child";
import type { Logger } from "@fastgpu/telemetry/log";
import type { DataDir } from "./data-dir.ts";
import type { PlatformOptions } from "./platform.ts";
import type { ServiceName } from "./services.ts";

/** The program that runs one service: `node main.ts NAME --config FILE`. */
export const serviceProgram = fileURLToPath(new URL("./service-main.ts", import.meta.url));

const stopSignals = [{ signal: "SIGTERM", waitMs: 20_000 }] as const;
/** Most time that a service takes to answer. */
const readyTimeoutMs = 60_000;

/** Runs a service in a process of its own, and again whenever it dies. Resolves when it answers. */
export function startChildService(of: {
  name: ServiceName;
  as: string;
  /** File with the service's section. */
  file: string;
  data: DataDir;
  log: Logger;
  options: PlatformOptions;
}): Promise<Child> {
  const { name, as, file, data, log, options } = of;
  const readyFile = join(data.path, "run", `${as}.ready`);
  return startChild({
    name: as,
    command: process.execPath,
    args: [
      serviceProgram,
      name,
      "--config",
      file,
      "--ready",
      readyFile,
      "--parent",
      String(process.pid),
    ],
    env: childEnv(options),
    logFile: join(data.path, "log", `${as}.log`),
    log,
    // What a killed root left behind would hold the same sockets.
    prepare: async () => {
      await endLeftovers(
        ({ args }) => args.includes(file) && args.includes(serviceProgram),
        stopSignals,
      );
    },
    isReady: (pid) => isReady(readyFile, pid),
    readyTimeoutMs,
    stopSignals,
  });
}

function childEnv(options: PlatformOptions): Record<string, string> {
  const path = options.env?.["PATH"] ?? "/usr/local/bin:/usr/bin:/bin";
  return {
    PATH: `${dirname(process.execPath)}:${path}`,
    HOME: options.env?.["HOME"] ?? "/",
    FASTGPU_LOG_LEVEL: options.logLevel ?? "info",
    ...(options.otlpUrl === undefined
      ? {}
      : { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: options.otlpUrl }),
  };
}

/** The child writes its own process id once it serves: the file of an earlier run does not count. */
async function isReady(readyFile: string, pid: number): Promise<boolean> {
  const text = await readFile(readyFile, "utf8").catch(() => "");
  return text.trim() === String(pid);
}

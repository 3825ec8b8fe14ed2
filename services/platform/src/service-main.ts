import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { stopOnProcessSignals, Stopped } from "@fastgpu/lifecycle/signals";
import { createLogger } from "@fastgpu/telemetry/log";
import { otlpUrlOf } from "@fastgpu/telemetry/tracing";
import { runService } from "./run-service.ts";
import { isServiceName, serviceNames } from "./services.ts";
import { readSections, settingsOf } from "./settings.ts";

/** Options of {@link serviceMain}. */
export interface ServiceMainOptions {
  readonly name: string;
  /** `fastgpu.yaml`; missing: everything comes from the environment. */
  readonly config?: string | undefined;
  /** File that gets our process id once the service answers. */
  readonly ready?: string | undefined;
  /** Process whose end ends us. */
  readonly parent?: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Runs one service in this process until SIGINT, SIGTERM or the end of its parent. */
export async function serviceMain(options: ServiceMainOptions): Promise<void> {
  const { name, env } = options;
  if (!isServiceName(name)) {
    throw new RangeError(`${name} is no service; there are ${serviceNames.join(", ")}`);
  }
  const sections = options.config === undefined ? {} : await readSections(options.config);
  const config = await settingsOf(name, { sections, env, source: options.config ?? "environment" });
  using signals = stopOnProcessSignals({ source: process, onSecond: () => process.exit(130) });
  const orphaned = new AbortController();
  const stop = AbortSignal.any([signals.stop, orphaned.signal]);
  const logLevel = env["FASTGPU_LOG_LEVEL"] ?? "info";
  await using _watch = watchParent(options.parent, { stop, orphaned, logLevel });
  const otlpUrl = otlpUrlOf(env);
  const service = runService(name, config, { stop, logLevel, otlpUrl });
  await service.ready;
  if (options.ready !== undefined) await writeFile(options.ready, `${process.pid}\n`);
  await service.done;
}

/** A root that was killed cannot tell its children: they look. */
function watchParent(
  parent: number | undefined,
  of: { stop: AbortSignal; orphaned: AbortController; logLevel: string },
): AsyncDisposable {
  const log = createLogger({ service: "platform", level: of.logLevel });
  return startLoop({
    name: "parent watch",
    stop: of.stop,
    log,
    idleMs: 1_000,
    step: () => {
      if (parent !== undefined && process.ppid !== parent)
        of.orphaned.abort(new Stopped("shutdown"));
      return Promise.resolve("idle");
    },
  });
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: "string" },
      ready: { type: "string" },
      parent: { type: "string" },
    },
  });
  const parent = values.parent === undefined ? undefined : Number(values.parent);
  const { config, ready } = values;
  await serviceMain({ name: positionals[0] ?? "", config, ready, parent, env: process.env });
}

import type { Clock } from "@fastgpu/domain/clock";
import { startDatabaseClock, wallClock } from "@fastgpu/lifecycle/clock";
import { openPool } from "@fastgpu/postgres/pool";
import { createLogger, type Logger } from "@fastgpu/telemetry/log";
import { createTracing, type Tracing } from "@fastgpu/telemetry/tracing";
import type { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import { services, type ServiceName } from "./services.ts";

/** What every service is run with. */
export interface RunOptions {
  readonly stop: AbortSignal;
  readonly logLevel: string;
  /** Address of an OTLP/HTTP collector; missing: nothing is exported. */
  readonly otlpUrl?: string | undefined;
  /** One clock for all services of a process; missing: the service gets its own. */
  readonly clock?: Clock | undefined;
  /** Keeps finished spans; for tests. */
  readonly spans?: InMemorySpanExporter | undefined;
}

/** A service on its way. */
export interface RunningService {
  readonly name: ServiceName;
  /** Resolves when it serves; rejects where it ends before. */
  readonly ready: Promise<void>;
  /** Resolves after its clean end, rejects where it fails. */
  readonly done: Promise<void>;
}

/** Runs one service in this process, with a logger, a tracer and a clock of its own. */
export function runService(name: ServiceName, config: object, options: RunOptions): RunningService {
  const ready = Promise.withResolvers<void>();
  const done = run(name, config, options, () => ready.resolve());
  done.then(
    () => ready.reject(new Error(`${name} ended before it was ready`)),
    (error: unknown) => ready.reject(error),
  );
  // Whoever waits for `done` hears of a failure; `ready` alone must not end the process a second time.
  ready.promise.catch(() => undefined);
  return { name, ready: ready.promise, done };
}

async function run(
  name: ServiceName,
  config: object,
  options: RunOptions,
  ready: () => void,
): Promise<void> {
  const { stop, logLevel, otlpUrl, spans: memory } = options;
  const log = createLogger({ service: name, level: logLevel });
  const tracing: Tracing = await createTracing({ service: name, otlpUrl, memory });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => tracing.shutdown());
  const clock = options.clock ?? (await clockOf(name, config, { stop, log, resources }));
  const main = await services[name].main();
  // Each entry pairs a main with the schema that its config was parsed with.
  await main(config as never, { stop, ready, log, clock, tracing });
}

async function clockOf(
  name: ServiceName,
  config: object,
  of: { stop: AbortSignal; log: Logger; resources: AsyncDisposableStack },
): Promise<Clock> {
  if (!services[name].database) return wallClock;
  const { database } = config as { database: { core: string } };
  const { log, stop, resources } = of;
  const pool = resources.use(openPool({ url: database.core, name: `${name} clock`, log, max: 1 }));
  return resources.use(
    await startDatabaseClock({ readDatabaseMs: () => pool.databaseMs(), stop, log }),
  );
}

import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { bootstrap, type Bootstrapped } from "@fastgpu/auth/bootstrap";
import { inviteWorker } from "@fastgpu/auth/workers";
import type { Clock } from "@fastgpu/domain/clock";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { startDatabaseClock } from "@fastgpu/lifecycle/clock";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import { migrate } from "@fastgpu/postgres/migrate";
import { openPool, type Pool } from "@fastgpu/postgres/pool";
import { createLogger, type Logger } from "@fastgpu/telemetry/log";
import type { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import { stringify } from "yaml";
import { startChildService } from "./child-service.ts";
import { databaseServices, openDataDir, type DataDir } from "./data-dir.ts";
import { startNats } from "./embedded/nats.ts";
import { startDatabase, type EmbeddedDatabase } from "./embedded/postgres.ts";
import { composedSections, defaultPorts, socketOf, type Ports } from "./layout.ts";
import { runService, type RunOptions } from "./run-service.ts";
import { serviceNames, type ServiceName } from "./services.ts";
import { mergeSections, settingsOf, type Sections } from "./settings.ts";

/** How a platform is started. */
export interface PlatformOptions {
  readonly dataDir: string;
  /** Default: 7600, 7601 and 7602. */
  readonly ports?: Ports | undefined;
  /** Each service and worker in a process of its own. */
  readonly split?: boolean | undefined;
  /** Number of workers on this machine; default 1. */
  readonly workers?: number | undefined;
  /** Simulated GPUs of each worker that finds no real one; default 0. */
  readonly simulatedGpus?: number | undefined;
  /** Absolute paths of folders that process tasks must not see, beside the platform's own: they may run as its user. */
  readonly hidePaths?: readonly string[] | undefined;
  /** Runtimes of the workers: `auto`, or a list of container, process and noop. */
  readonly runtime?: string | undefined;
  /** Settings over those of the composition, from the user's `fastgpu.yaml`. */
  readonly sections?: Sections | undefined;
  /** pino's level of the services' logs; default warn. */
  readonly logLevel?: string | undefined;
  /** The platform's own logger; default: like those of the services. */
  readonly log?: Logger | undefined;
  /** Where spans are sent, for example `http://localhost:4318/v1/traces`; missing: nowhere. */
  readonly otlpUrl?: string | undefined;
  /** Keeps finished spans; for tests in one process. */
  readonly spans?: InMemorySpanExporter | undefined;
  /** Overrides such as FASTGPU_SCHEDULER__LEASE_TTL_MS are taken from here, and PATH for nats-server. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Told of each step, for people. */
  readonly onProgress?: ((step: string) => void) | undefined;
}

/** A running platform on this machine. */
export interface Platform extends AsyncDisposable {
  /** host:port of the gateway. */
  readonly address: string;
  readonly metricsAddress: string;
  readonly dataDir: string;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The operator's first key: at the first start only, never again. */
  readonly firstKey: string | undefined;
  /** Read-only URL over all schemas, for the auditor. */
  readonly auditorUrl: string;
  /** Superuser's URL of the embedded server. */
  readonly adminUrl: string;
  readonly urls: EmbeddedDatabase["urls"];
  readonly natsUrl: string;
  /** Process ids of split services and workers by name (`scheduler`, `worker-1`); empty when composed. */
  pids(): ReadonlyMap<string, number>;
  /** Process ids of the database and the broker. */
  backingPids(): { readonly postgres: number; readonly nats: number };
  /** Rejects where a service fails; resolves after `stop`. */
  readonly done: Promise<void>;
  /** Ends services in order: gateway and workers first, the database last. */
  stop(): Promise<void>;
}

/**
 * Starts database and broker, brings the schemas up to date, makes the first tenant where there is none, then runs
 * every service and the workers. Resolves when all of them answer.
 */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const tell = options.onProgress ?? (() => undefined);
  const log =
    options.log ?? createLogger({ service: "platform", level: options.logLevel ?? "warn" });
  await using stack = new AsyncDisposableStack();
  const data = await openDataDir(options.dataDir);
  stack.defer(() => data[Symbol.dispose]());

  tell("database and broker");
  const env = options.env ?? {};
  const [database, nats] = await startBacking(data, { log, path: env["PATH"] ?? "", stack });

  tell("schemas");
  await migrateAll(database, log);

  const clockStop = new AbortController();
  stack.defer(() => clockStop.abort());
  const core = database.urls["auth"]?.core ?? "";
  const pool = stack.use(openPool({ url: core, name: "platform", log, max: 1 }));
  const readDatabaseMs = () => pool.databaseMs();
  const clock = stack.use(
    await startDatabaseClock({ readDatabaseMs, stop: clockStop.signal, log }),
  );
  const tenant = await firstTenant(data, pool, clock);

  tell("services");
  const ports = options.ports ?? defaultPorts;
  const backing = { data, urls: database.urls, natsUrl: nats.url, ports };
  const sections = mergeSections(composedSections(backing), options.sections ?? {});
  const runner = createRunner({ options, sections, clock, data, log });
  stack.defer(() => runner.stop());
  const others = serviceNames.filter((name) => name !== "worker");
  await Promise.all(others.map((name) => runner.run(name, name)));

  tell("workers");
  const count = options.workers ?? 1;
  const workers = Array.from({ length: count }, (_, i) => i + 1);
  await Promise.all(
    workers.map(async (n) => {
      const joinToken = await inviteOne({ data, pool, clock, org: tenant.org });
      await runner.run(
        "worker",
        `worker-${n}`,
        workerSection(options, { data, n, ports, natsUrl: nats.url, joinToken }),
      );
    }),
  );
  const owned = stack.move();
  const stop = (): Promise<void> => owned.disposeAsync();
  return {
    address: `127.0.0.1:${ports.gateway}`,
    metricsAddress: `127.0.0.1:${ports.metrics}`,
    dataDir: data.path,
    org: tenant.org,
    project: tenant.project,
    firstKey: tenant.firstKey?.secret,
    auditorUrl: database.auditorUrl,
    adminUrl: database.adminUrl,
    urls: database.urls,
    natsUrl: nats.url,
    pids: () => runner.pids(),
    backingPids: () => ({ postgres: database.pid, nats: nats.pid }),
    done: runner.done,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function startBacking(
  data: DataDir,
  of: { log: Logger; path: string; stack: AsyncDisposableStack },
) {
  const { log, path, stack } = of;
  const starting = [
    startDatabase({ dataDir: data.path, services: databaseServices, password: data.password, log }),
    startNats({ dataDir: data.path, password: data.password("nats"), path, log }),
  ] as const;
  const settled = await Promise.allSettled(starting);
  for (const each of settled) if (each.status === "fulfilled") stack.use(each.value);
  return Promise.all(starting);
}

/** Applies the migrations of every service; answers how many there were to apply. */
export async function migrateAll(
  database: Pick<EmbeddedDatabase, "urls">,
  log: Logger,
): Promise<number> {
  const applied = await Promise.all(
    databaseServices.map((service) => {
      const directory = fileURLToPath(new URL(`../../${service}/migrations`, import.meta.url));
      return migrate({ ownerUrl: database.urls[service]?.owner ?? "", service, directory, log });
    }),
  );
  return applied.reduce((sum, count) => sum + count, 0);
}

async function firstTenant(data: DataDir, core: Pool, clock: Clock): Promise<Bootstrapped> {
  const master = await openMasterKey(data.masterKeyFile);
  return bootstrap({ core, master, nowMs: clock.nowMs(), env: "local" });
}

async function inviteOne(of: {
  data: DataDir;
  pool: Pool;
  clock: Clock;
  org: OrgId;
}): Promise<string> {
  const master = await openMasterKey(of.data.masterKeyFile);
  const invitation = await inviteWorker(of.pool, {
    master,
    nowMs: of.clock.nowMs(),
    org: of.org,
    invitedBy: "service:platform",
  });
  return invitation.joinToken;
}

function workerSection(
  options: PlatformOptions,
  of: { data: DataDir; n: number; ports: Ports; natsUrl: string; joinToken: string },
): Record<string, unknown> {
  const { data, n, ports } = of;
  const count = options.workers ?? 1;
  return {
    directory: join(data.path, `worker-${n}`),
    name: count === 1 ? "local" : `local-${n}`,
    scheduler: `127.0.0.1:${ports.workers}`,
    auth: `unix:${socketOf(data, "auth")}`,
    storage: `unix:${socketOf(data, "storage")}`,
    natsUrl: of.natsUrl,
    joinToken: of.joinToken,
    ...(options.simulatedGpus === undefined ? {} : { simulatedGpus: options.simulatedGpus }),
    ...(options.runtime === undefined ? {} : { runtime: options.runtime }),
    // Workers of one machine share its cores; each offers its part.
    cpuMillis: Math.max(1_000, Math.floor((availableParallelism() * 1_000) / count)),
    memoryMib: Math.floor(totalmem() / 2 ** 20 / count),
    // A process task has this machine's user: it must not find the platform's keys and stores.
    hidePaths: [
      ...["keys", "postgres", "nats", "storage", "run", "log"].map((name) => join(data.path, name)),
      // A folder that holds the data directory cannot be hidden from what runs in it.
      ...(options.hidePaths ?? []).filter((path) => !data.path.startsWith(join(path, "/"))),
    ],
  };
}

/** Runs services here or in children, and ends them in order. */
interface Runner {
  run(name: ServiceName, as: string, over?: Record<string, unknown>): Promise<void>;
  pids(): ReadonlyMap<string, number>;
  readonly done: Promise<void>;
  stop(): Promise<void>;
}

/** Who ends before whom: nobody loses a service that it still needs. */
const stopOrder: readonly ServiceName[][] = [
  ["gateway"],
  ["worker"],
  ["scheduler", "monitor"],
  ["billing", "storage"],
  ["auth"],
];

function createRunner(of: {
  options: PlatformOptions;
  sections: Sections;
  clock: Clock;
  data: DataDir;
  log: Logger;
}): Runner {
  const { options, sections, clock, data, log } = of;
  const running: { name: ServiceName; as: string; pid: () => number; end: () => Promise<void> }[] =
    [];
  const failed = Promise.withResolvers<void>();
  // Whoever starts a platform may look at `done` later than a service fails.
  failed.promise.catch(() => undefined);
  const runOptions: Omit<RunOptions, "stop"> = {
    logLevel: options.logLevel ?? "warn",
    otlpUrl: options.otlpUrl,
    clock: options.split === true ? undefined : clock,
    spans: options.spans,
  };
  const here = async (name: ServiceName, as: string, config: object): Promise<void> => {
    const controller = new AbortController();
    const service = runService(name, config, { ...runOptions, stop: controller.signal });
    service.done.catch((error: unknown) => {
      log.error({ err: error, service: as }, "service failed");
      failed.reject(error);
    });
    const end = async (): Promise<void> => {
      controller.abort();
      await service.done.catch(() => undefined);
    };
    running.push({ name, as, pid: () => process.pid, end });
    await service.ready;
  };
  const apart = async (name: ServiceName, as: string, config: object): Promise<void> => {
    const file = join(data.path, "run", `${as}.yaml`);
    await mkdir(join(data.path, "run"), { recursive: true });
    await writeFile(file, stringify({ [name]: config }), { mode: 0o600 });
    const child = await startChildService({ name, as, file, data, log, options });
    running.push({ name, as, pid: () => child.pid, end: () => child.stop() });
  };
  return {
    async run(name, as, over) {
      const own = mergeSections(
        sections,
        over === undefined ? {} : { [name]: { ...over, ...sections[name] } },
      );
      const source = "the composed configuration";
      const config = await settingsOf(name, { sections: own, env: options.env ?? {}, source });
      await (options.split === true ? apart : here)(name, as, config);
    },
    pids: () => new Map(options.split === true ? running.map((each) => [each.as, each.pid()]) : []),
    done: failed.promise,
    async stop() {
      failed.resolve();
      for (const names of stopOrder) {
        await Promise.all(
          running.filter((each) => names.includes(each.name)).map((each) => each.end()),
        );
      }
    },
  };
}

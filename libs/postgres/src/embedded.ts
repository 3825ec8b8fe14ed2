import { randomBytes } from "node:crypto";
import { chown, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Fault } from "@fastgpu/domain/fault";
import { freePort, startChild } from "@fastgpu/lifecycle/child";
import { createSystemUser, findUser } from "@fastgpu/lifecycle/reach";
import type { MachineUser } from "@fastgpu/lifecycle/reach";
import type { Logger } from "@fastgpu/telemetry/log";
import { locateBinaries } from "./binaries.ts";
import type { PostgresBinaries } from "./binaries.ts";
import { endClusterProcesses, postgresStopSignals } from "./cluster-processes.ts";
import { makeClusterDir, placeCluster } from "./cluster.ts";

/** Options of {@link startEmbeddedPostgres}. */
export interface EmbeddedPostgresOptions {
  /** The database's own directory (DATA/postgres). The caller holds DATA's lock. */
  readonly dataDir: string;
  /** Missing = any free port of the loopback address. */
  readonly port?: number | undefined;
  readonly password: string;
  readonly log: Logger;
  /** false turns fsync off: for tests that do not kill the server. */
  readonly durable?: boolean;
  readonly maxConnections?: number;
  /** Where copies of the programs go; see `defaultCacheDir`. */
  readonly cacheDir?: string | undefined;
  /** Where a cluster goes whose data directory is closed to the database's user. */
  readonly elsewhere?: string | undefined;
}

/** A running server of our own. */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** Superuser's URL to the database `postgres`. */
  readonly adminUrl: string;
  readonly port: number;
  /** The directory of the cluster, for messages. */
  readonly clusterDir: string;
  /** Process id of the postmaster; changes when it had to be started again. */
  readonly pid: number;
  stop(): Promise<void>;
}

const run = promisify(execFile);
const systemUser = "fastgpu-postgres";

/** Small on purpose (G11): shared memory costs only what is touched, workers cost always. */
const settings: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  shared_buffers: "32MB",
  wal_buffers: "1MB",
  work_mem: "4MB",
  maintenance_work_mem: "32MB",
  huge_pages: "off",
  // Asynchronous IO by workers would cost three idle processes.
  io_method: "sync",
  jit: "off",
  max_worker_processes: "0",
  max_parallel_workers: "0",
  max_parallel_workers_per_gather: "0",
  max_logical_replication_workers: "0",
  max_wal_senders: "0",
  autovacuum_worker_slots: "2",
  autovacuum_max_workers: "2",
  // After a crash: one call for the file system instead of one for each of 1,500 files (seconds).
  recovery_init_sync_method: "syncfs",
  log_checkpoints: "off",
  max_wal_size: "512MB",
  min_wal_size: "64MB",
  password_encryption: "scram-sha-256",
  timezone: "UTC",
  log_timezone: "UTC",
  log_line_prefix: "%m [%p] %u ",
  idle_in_transaction_session_timeout: "60s",
  tcp_keepalives_idle: "30",
};

/**
 * Starts a real Postgres on the loopback address and keeps it running. The first start makes the
 * cluster (0.6 s). What a kill -9 left behind is cleared: a postmaster or backends of this cluster
 * are ended, a stale lock file goes. Throws a Fault with the end of the server's log.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const user = await databaseUser();
  const binaries = await locateBinaries({ user, cacheDir: options.cacheDir });
  const clusterDir = await placeCluster(options.dataDir, user, options.elsewhere);
  await endClusterProcesses(clusterDir);
  if (!(await exists(join(clusterDir, "PG_VERSION")))) {
    await createCluster({
      binaries,
      clusterDir,
      user,
      password: options.password,
      durable: options.durable ?? true,
    });
  }
  const port = options.port ?? (await freePort());
  const child = await startChild({
    name: "postgres",
    command: binaries.postgres,
    args: ["-D", clusterDir, ...serverArguments(options, port)],
    env: { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" },
    user,
    logFile: join(options.dataDir, "postgres.log"),
    log: options.log,
    prepare: () => endClusterProcesses(clusterDir),
    isReady: (pid) => isReady(clusterDir, pid),
    readyTimeoutMs: 120_000,
    stopSignals: postgresStopSignals,
  });
  return {
    adminUrl: `postgres://postgres:${encodeURIComponent(options.password)}@127.0.0.1:${port}/postgres`,
    port,
    clusterDir,
    get pid() {
      return child.pid;
    },
    stop: () => child.stop(),
    [Symbol.asyncDispose]: () => child.stop(),
  };
}

/** Postgres refuses to run as root: as root it gets a user of its own; otherwise it runs as us. */
async function databaseUser(): Promise<MachineUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  return (
    (await findUser("postgres")) ?? (await findUser(systemUser)) ?? createSystemUser(systemUser)
  );
}

function serverArguments(options: EmbeddedPostgresOptions, port: number): string[] {
  const all: Record<string, string> = {
    ...settings,
    port: String(port),
    max_connections: String(options.maxConnections ?? 60),
  };
  if (options.durable === false) {
    all["fsync"] = "off";
    all["full_page_writes"] = "off";
    all["synchronous_commit"] = "off";
  }
  return Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/** Makes the cluster under another name and renames it: a crash in between leaves nothing. */
async function createCluster(options: {
  binaries: PostgresBinaries;
  clusterDir: string;
  user: MachineUser | undefined;
  password: string;
  durable: boolean;
}): Promise<void> {
  const draft = `${options.clusterDir}.new`;
  await makeClusterDir(draft, options.user);
  const passwordFile = join(dirname(draft), `.initdb-${randomBytes(6).toString("hex")}`);
  await writeFile(passwordFile, `${options.password}\n`, { mode: 0o600 });
  if (options.user !== undefined) await chown(passwordFile, options.user.uid, options.user.gid);
  const args = [
    `--pgdata=${draft}`,
    "--username=postgres",
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-locale",
    options.durable ? "--sync-method=syncfs" : "--no-sync",
  ];
  try {
    await run(options.binaries.initdb, args, {
      env: { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" },
      cwd: "/",
      ...options.user,
    });
  } catch (error) {
    const detail = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
    throw new Fault("UNAVAILABLE", `cannot create the database in ${draft}: ${detail}`, {
      cause: error,
    });
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(draft, options.clusterDir);
}

/** The server writes its state into the lock file's eighth line. */
async function isReady(clusterDir: string, pid: number): Promise<boolean> {
  const text = await readFile(join(clusterDir, "postmaster.pid"), "utf8").catch(() => "");
  const lines = text.split("\n");
  return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

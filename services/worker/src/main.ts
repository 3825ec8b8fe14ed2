import { createHash } from "node:crypto";
import { readFile, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { availableParallelism, hostname, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { type CheckpointStore, openCheckpoints } from "./checkpoint/store.ts";
import { Fault } from "@fastgpu/domain/fault";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { aborted } from "@fastgpu/lifecycle/signals";
import { type Channel, createChannel } from "@fastgpu/rpc/channel";
import { type Attempts, createAttempts } from "./attempt/attempts.ts";
import { isHardwareXid } from "./attempt/classify.ts";
import { type Standing, openStanding } from "./identity/standing.ts";
import { openRecords } from "./attempt/records.ts";
import { bootId } from "./boot-time.ts";
import type { WorkerConfig } from "./config.ts";
import type { GpuDevice, GpuInventory } from "./gpu/device.ts";
import { openInventory } from "./gpu/inventory.ts";
import { openIdentity } from "./identity/identity.ts";
import { type Journal, openJournal } from "./journal/journal.ts";
import { type WorkerFiles, attemptFiles, prepareWorkerFiles, workerFiles } from "./keeper/files.ts";
import { type LeaseBook, createLeaseBook } from "./lease/book.ts";
import { createAttemptStorage } from "./outputs/storage.ts";
import { type Runtimes, openRuntimes } from "./runtimes.ts";
import { serveLogs } from "./session/log-server.ts";
import { type SessionLoop, startSession } from "./session/session.ts";

const version = "0.1.0";
/** Longest wait for tasks that are told to stop with the worker, beyond their own grace, in milliseconds. */
const stopTasksMs = 60_000;

/**
 * Runs one worker until `context.stop`. Stopping detaches: processes go on under the keeper and containers under
 * their engine until their leases end, and a worker that starts before that takes them up again.
 */
export async function main(config: WorkerConfig, context: ServiceContext): Promise<void> {
  const files = workerFiles(resolve(config.directory));
  prepareWorkerFiles(files);
  await using _lock = await lockDataDir(files.root);
  const name = config.name === "" ? hostname() : config.name;
  const channels = await openChannels(config, context, name, join(files.private, "identity.json"));
  const standing = openStanding(join(files.private, "standing.json"));
  const load = { running: 0 };
  using gpus = await openInventory({
    real: config.realGpus,
    simulatedCount: config.simulatedGpus,
    seed: files.root,
    load: () => Math.min(1, load.running / Math.max(1, config.simulatedGpus)),
  });
  await using runtimes = await openRuntimes(config, files);
  await using journal = await openJournal(join(files.private, "journal.log"));
  using checkpoints = openCheckpoints({ dir: files.checkpoints, keepMs: config.checkpointKeepMs });
  const leases = createLeaseBook({ marginMs: config.leaseMarginMs });
  const parts: Parts = {
    config,
    context,
    files,
    channels,
    standing,
    gpus,
    runtimes,
    leases,
    checkpoints,
  };
  const lines: { session?: SessionLoop } = {};
  // A report is sent as soon as it is durable.
  const append: Journal["append"] = async (report) => {
    const entry = await journal.append(report);
    lines.session?.flush();
    return entry;
  };
  await using attempts = await openAttempts(parts, { ...journal, append });
  // What this worker still has is held by now.
  void checkpoints.sweep();
  const session = await openSession(parts, attempts, journal, name);
  lines.session = session;
  const logs = serveLogs({
    channel: channels.scheduler,
    attempts,
    log: context.log,
    stop: channels.closing,
    logPath: (attempt) => attemptFiles(files, attempt).log,
    random: Math.random,
  });
  await using _samples = await openSamples(parts, () => (load.running = attempts.size));
  await aborted(context.stop);
  session.drain();
  if (config.stopTasks) await stopTasks(attempts, () => journal.pending());
  channels.close();
  await Promise.all([session.done, logs]);
}

/** What the parts of a worker share. */
interface Parts {
  readonly config: WorkerConfig;
  readonly context: ServiceContext;
  readonly files: WorkerFiles;
  readonly channels: Channels;
  readonly standing: Standing;
  readonly gpus: GpuInventory;
  readonly runtimes: Runtimes;
  readonly leases: LeaseBook;
  readonly checkpoints: CheckpointStore;
}

function openAttempts(parts: Parts, journal: Journal): Promise<Attempts> {
  const { config, context, files, channels, standing, gpus, runtimes, leases, checkpoints } = parts;
  return createAttempts({
    checkpoints,
    records: openRecords(join(files.private, "records")),
    journal,
    leases,
    storage: createAttemptStorage(channels.storage),
    tracing: context.tracing,
    log: context.log,
    leaseGraceMs: Math.floor(config.leaseMarginMs / 2),
    runtimes: runtimes.all,
    runtimeFor: (lease) => runtimes.runtimeFor(lease),
    gpusOf: (ids) => gpus.devices.filter(({ uuid }) => ids.includes(standing.gpuId(uuid) ?? "")),
    faultOf: (held, sinceBootMs) => faultOf(gpus, held, sinceBootMs),
    logPath: (attempt) => attemptFiles(files, attempt).log,
  });
}

async function openSession(
  parts: Parts,
  attempts: Attempts,
  journal: Journal,
  displayName: string,
): Promise<SessionLoop> {
  const { config, context, files, channels, standing, gpus, runtimes, leases } = parts;
  const machine = await machineOf(config, files.root);
  return startSession({
    channel: channels.scheduler,
    attempts,
    journal,
    leases,
    log: context.log,
    stop: channels.closing,
    random: Math.random,
    hello: () => ({
      displayName,
      workerVersion: version,
      bootId: bootId(),
      incarnation: standing.incarnation(),
      ...machine,
      runtimes: [...runtimes.names],
      topology: config.topology,
      gpus: gpus.devices.map(toInventory),
    }),
    onWelcome({ incarnation, gpus: ids }) {
      const named = gpus.devices.map(({ uuid, index }) => [uuid, ids[index] ?? ""] as const);
      const restored = standing.obey({ incarnation, gpuIds: Object.fromEntries(named) });
      context.ready();
      return restored;
    },
    onLeases: () => pushDeadlines(runtimes, leases.killTimes(), context),
  });
}

function toInventory({ index, uuid, model, memoryMib, simulated }: GpuDevice): {
  index: number;
  uuid: string;
  model: string;
  memoryMib: bigint;
  simulated: boolean;
} {
  return { index, uuid, model, memoryMib: BigInt(memoryMib), simulated };
}

function faultOf(
  gpus: GpuInventory,
  held: readonly GpuDevice[],
  sinceBootMs: number,
): number | undefined {
  for (const { index } of held) {
    const last = gpus.lastXid(index);
    if (last !== undefined && last.atBootMs >= sinceBootMs && isHardwareXid(last.xid)) {
      return last.xid;
    }
  }
  return undefined;
}

function pushDeadlines(
  runtimes: Runtimes,
  killTimes: ReadonlyMap<string, number>,
  { log }: ServiceContext,
): void {
  runtimes.setDeadlines(killTimes).catch((error: unknown) => {
    // The keeper then ends attempts at the deadlines it has: too early is safe.
    log.warn({ err: error }, "deadlines were not passed to the keeper");
  });
}

/** Ends every task and waits until the scheduler has their ends; bounded. */
async function stopTasks(attempts: Attempts, pending: () => readonly unknown[]): Promise<void> {
  const limit = AbortSignal.timeout(stopTasksMs);
  await Promise.race([attempts.stopAll(), aborted(limit)]);
  while ((attempts.size > 0 || pending().length > 0) && !limit.aborted) {
    await new Promise((next) => setTimeout(next, 20));
  }
}

interface Channels {
  readonly node: string;
  readonly scheduler: Channel;
  readonly storage: Channel;
  /** Aborted by `close`: the streams end. */
  readonly closing: AbortSignal;
  close(): void;
}

async function openChannels(
  config: WorkerConfig,
  context: ServiceContext,
  displayName: string,
  identityPath: string,
): Promise<Channels> {
  const caPem = config.tlsCaFile === "" ? undefined : await readFile(config.tlsCaFile, "utf8");
  const tls = caPem === undefined ? {} : { tls: { caPem } };
  const { tracing } = context;
  const auth = createChannel({ address: config.auth, tracing, ...tls });
  const identity = await openIdentity({
    path: identityPath,
    channel: auth,
    joinToken: config.joinToken === "" ? undefined : config.joinToken,
    displayName,
    stop: context.stop,
  });
  const common = { token: () => identity.token(), tracing, ...tls };
  const scheduler = createChannel({ address: config.scheduler, ...common });
  const storage = createChannel({ address: config.storage, ...common });
  const closing = new AbortController();
  return {
    node: identity.node,
    scheduler,
    storage,
    closing: closing.signal,
    close() {
      closing.abort();
      for (const channel of [scheduler, storage, auth]) channel.close();
    },
  };
}

/** What the machine offers, in the Hello's units. */
async function machineOf(
  config: WorkerConfig,
  root: string,
): Promise<{ cpuMillis: bigint; memoryMib: bigint; diskMib: bigint }> {
  const { bavail, bsize } = await statfs(root);
  const cpuMillis = config.cpuMillis === 0 ? availableParallelism() * 1_000 : config.cpuMillis;
  const memoryMib = config.memoryMib === 0 ? Math.floor(totalmem() / 1_048_576) : config.memoryMib;
  return {
    cpuMillis: BigInt(cpuMillis),
    memoryMib: BigInt(memoryMib),
    diskMib: BigInt(Math.floor((bavail * bsize) / 1_048_576)),
  };
}

async function openSamples(parts: Parts, before: () => void): Promise<AsyncDisposable> {
  const { config, context, gpus, standing, channels } = parts;
  if (config.natsUrl === "") return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const { openNatsBus } = await import("@fastgpu/events/nats-bus");
  const { startSamples } = await import("./samples/publish.ts");
  const bus = openNatsBus({
    url: config.natsUrl,
    prefix: config.natsPrefix,
    name: "worker",
    log: context.log,
  });
  const samples = startSamples({
    bus,
    gpus,
    intervalMs: config.sampleIntervalMs,
    log: context.log,
    names() {
      before();
      // Before the first Welcome the GPUs have no names yet.
      if (gpus.devices.some(({ uuid }) => standing.gpuId(uuid) === undefined)) return undefined;
      return {
        node: channels.node,
        gpus: gpus.devices.map(({ uuid }) => standing.gpuId(uuid) ?? ""),
      };
    },
  });
  return {
    async [Symbol.asyncDispose]() {
      samples[Symbol.dispose]();
      await bus[Symbol.asyncDispose]();
    },
  };
}

/** Two workers on one directory would fight over its attempts: the name vanishes with its holder. */
async function lockDataDir(root: string): Promise<AsyncDisposable> {
  const name = createHash("sha256").update(root).digest("hex").slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((held, failed) => {
    server.once("error", () => {
      failed(
        new Fault("ILLEGAL_STATE", `another worker uses ${root}`, {
          hint: "stop it, or give this one another worker.directory",
        }),
      );
    });
    server.listen(`\0fastgpu-worker-${name}`, held);
  });
  return {
    [Symbol.asyncDispose]: () => new Promise((done) => server.close(() => done())),
  };
}

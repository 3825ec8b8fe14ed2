import { chmodSync, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { resolveCdiDevice } from "../../gpu/cdi.ts";
import type { KeeperClient } from "../../keeper/client.ts";
import {
  type AttemptFiles,
  type WorkerFiles,
  attemptFiles,
  attemptNames,
  readLaunch,
  readOutcome,
  writeJson,
} from "../../keeper/files.ts";
import { recordLost } from "../../keeper/launcher.ts";
import type { KnownAttempt, Launch, Runtime, RuntimeEvent, StartResult } from "../port.ts";
import { type ContainerRequest, type CreateResult, type Engine, insidePaths } from "./engine.ts";
import { blamesCommand, isLocalName } from "./failures.ts";
import { prepareLanes } from "./lanes.ts";
import { writeSeccompProfile } from "./seccomp.ts";

/** Options of {@link createContainerRuntime}. */
export interface ContainerRuntimeOptions {
  readonly files: WorkerFiles;
  readonly keeper: KeeperClient;
  readonly engine: Engine;
  /** Where CDI specifications are looked for; tests bring their own. */
  readonly cdiDirs?: readonly string[];
}

type Refusal = Extract<StartResult, { kind: "refused" }>;

/** Runs attempts as hardened containers; the keeper follows their logs and enforces their deadlines. */
export function createContainerRuntime(options: ContainerRuntimeOptions): Runtime {
  const { files, keeper, engine } = options;
  const listeners: ((event: RuntimeEvent) => void)[] = [];
  const mine = new Set<string>();
  const emit = (event: RuntimeEvent): void => {
    if (event.kind === "exited") mine.delete(event.name);
    for (const listener of listeners) listener(event);
  };
  keeper.onEvent((event) => {
    if (mine.has(event.name)) emit(event);
  });
  // Containers outlive a keeper: a new one takes them over.
  keeper.onLost(() => {
    if (mine.size > 0) void adoptAll().catch(() => undefined);
  });
  const watch = async (name: string, killAtBootMs: number): Promise<StartResult> => {
    const { address } = engine;
    const reply = await keeper.ask({ op: "watch", name, killAtBootMs, engine: address });
    if (reply.kind !== "start") throw new Error(`unexpected answer ${reply.kind}`);
    return reply.start;
  };
  const adopt = async (name: string): Promise<KnownAttempt> => {
    const own = attemptFiles(files, name);
    const known = readOutcome(own);
    if (known !== undefined) return { name, outcome: known };
    if ((await engine.inspect(name)) === undefined) return { name, outcome: await recordLost(own) };
    mine.add(name);
    // The deadline file still holds the lease; without an entry the container ends at once.
    await watch(name, Number.MAX_SAFE_INTEGER);
    return { name, outcome: readOutcome(own) };
  };
  const adoptAll = async (): Promise<readonly KnownAttempt[]> => {
    const names = attemptNames(files).filter(
      (name) => readLaunch(attemptFiles(files, name))?.image !== undefined,
    );
    const known = await Promise.all(names.map(adopt));
    for (const { name, outcome } of known) {
      if (outcome !== undefined && mine.has(name)) emit({ kind: "exited", name, outcome });
    }
    return known;
  };
  return {
    kind: "container",
    async start(launch, deadlineBootMs) {
      const own = attemptFiles(files, launch.name);
      const refusal = await prepare(options, own, launch);
      if (refusal !== undefined) {
        await engine.remove(launch.name).catch(() => undefined);
        return refusal;
      }
      mine.add(launch.name);
      const watched = await watch(launch.name, deadlineBootMs);
      if (watched.kind === "refused") {
        mine.delete(launch.name);
        await engine.remove(launch.name).catch(() => undefined);
        return watched;
      }
      const outcome = readOutcome(own);
      // Started by an earlier call and over since: nobody will say so again.
      if (outcome !== undefined && mine.has(launch.name)) {
        setImmediate(() => emit({ kind: "exited", name: launch.name, outcome }));
      }
      const view = await engine.inspect(launch.name);
      if (view?.state !== "created") return watched;
      const started = await engine.start(launch.name);
      if (started.kind === "done") return watched;
      mine.delete(launch.name);
      await engine.remove(launch.name).catch(() => undefined);
      return refuseStart(started.message);
    },
    async stop(name, request) {
      const reply = await keeper.askIfAlive({ op: "stop", name, request });
      return reply?.kind === "stop" && reply.delivered;
    },
    setDeadlines: (deadlines) => keeper.setDeadlines(deadlines),
    list: adoptAll,
    workFolder: (name) => ({ host: attemptFiles(files, name).work, inside: insidePaths.work }),
    async remove(name) {
      mine.delete(name);
      keeper.forget(name);
      await engine.remove(name);
      rmSync(attemptFiles(files, name).dir, { recursive: true, force: true });
    },
    subscribe: (listener) => void listeners.push(listener),
    [Symbol.asyncDispose]() {
      engine[Symbol.dispose]();
      keeper.close();
      return Promise.resolve();
    },
  };
}

function refuse(exitClass: Refusal["exitClass"], message: string): Refusal {
  return { kind: "refused", exitClass, message: message.slice(0, 1_000) };
}

/** Creates and initialises the container without running the task; undefined = ready (or running already). */
async function prepare(
  options: ContainerRuntimeOptions,
  own: AttemptFiles,
  launch: Launch,
): Promise<Refusal | undefined> {
  const { engine, files } = options;
  const ioDir = join(own.dir, "io");
  for (const dir of [own.dir, own.work, ioDir]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  // Open to the container's users, whoever they are inside; the folder above is closed to the host's others.
  for (const dir of [own.work, ioDir]) chmodSync(dir, 0o777);
  const seccompPath = join(files.private, "seccomp.json");
  writeSeccompProfile(seccompPath);
  if (readLaunch(own) === undefined) writeJson(own.launch, launch);
  const nodes = await resolveDevices(launch, options.cdiDirs);
  if (nodes.kind === "missing") return refuse("start_failed", nodes.message);
  const env = {
    ...launch.env,
    FASTGPU_PROGRESS_FILE: `${insidePaths.io}/progress`,
    ...(launch.checkpoints === undefined
      ? {}
      : { FASTGPU_CHECKPOINT_DIR: insidePaths.checkpoints }),
  };
  const { array } = launch;
  const created = await createPulling(engine, {
    launch: { ...launch, env },
    workDir: own.work,
    ioDir,
    logPath: join(own.dir, "engine.log"),
    seccompPath,
    command: array === undefined ? launch.command : prepareLanes(ioDir, array, launch),
    labels: { "fastgpu.attempt": launch.name },
  });
  if (created.kind === "refused") return created;
  if (created.kind === "failed") return refuse("start_failed", created.message);
  const before = await engine.inspect(launch.name);
  if (before?.state !== "created") return undefined;
  const initialised = await engine.init(launch.name);
  if (initialised.kind === "failed") return refuseStart(initialised.message);
  return verifyDevices(engine, launch.name, nodes.paths);
}

/** A command that the image does not have stays one: the task fails at once. All else may pass. */
function refuseStart(message: string): Refusal {
  if (!blamesCommand(message)) return refuse("start_failed", message);
  return refuse("rejected", `the image cannot run the command: ${message}`);
}

/** Creates the container, fetching an image that is not on this machine. */
async function createPulling(
  engine: Engine,
  request: ContainerRequest,
): Promise<Exclude<CreateResult, { kind: "no_image" }> | Refusal> {
  const image = request.launch.image ?? "";
  const absent = (message: string): Refusal =>
    refuse(
      "rejected",
      `no image ${image} on this worker, and no registry has it for us (${message}); check the name, or bring it here with: fastgpu image import`,
    );
  for (let pulled = false; ; pulled = true) {
    const created = await engine.create(request);
    if (created.kind !== "no_image") return created;
    if (pulled || isLocalName(image)) return absent(created.message);
    const pull = await engine.pull(image);
    if (pull.kind === "unknown") return absent(pull.message);
    if (pull.kind === "unreachable") {
      return refuse("image", `the registry of ${image} did not give it: ${pull.message}`);
    }
  }
}

async function resolveDevices(
  launch: Launch,
  cdiDirs: readonly string[] | undefined,
): Promise<{ kind: "found"; paths: string[] } | { kind: "missing"; message: string }> {
  const paths: string[] = [];
  for (const device of launch.devices) {
    const nodes = await resolveCdiDevice(device, cdiDirs);
    if (nodes === undefined) {
      const message = `no CDI specification names ${device} (try: nvidia-ctk cdi generate)`;
      return { kind: "missing", message };
    }
    paths.push(...nodes);
  }
  return { kind: "found", paths };
}

/** Looks from the container's own root, before the task's first instruction: promised devices must be there. */
async function verifyDevices(
  engine: Engine,
  name: string,
  paths: readonly string[],
): Promise<Refusal | undefined> {
  if (paths.length === 0) return undefined;
  const pid = (await engine.inspect(name))?.pid ?? 0;
  const missing = paths.filter((path) => pid === 0 || !isDevice(`/proc/${pid}/root${path}`));
  if (missing.length === 0) return undefined;
  return refuse("start_failed", `promised devices are missing inside: ${missing.join(", ")}`);
}

function isDevice(path: string): boolean {
  if (!existsSync(path)) return false;
  const found = statSync(path);
  return found.isCharacterDevice() || found.isBlockDevice();
}

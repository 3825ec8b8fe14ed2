import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { WorkerConfig } from "./config.ts";
import { type KeeperClient, createKeeperClient } from "./keeper/client.ts";
import type { WorkerFiles } from "./keeper/files.ts";
import { createNoopRuntime } from "./runtime/noop.ts";
import type { Runtime } from "./runtime/port.ts";
import { createProcessRuntime } from "./runtime/process/runtime.ts";

/** The runtimes of one worker. */
export interface Runtimes extends AsyncDisposable {
  readonly all: readonly Runtime[];
  /** Their names as the scheduler knows them. */
  readonly names: readonly string[];
  runtimeFor(lease: Lease): Runtime | undefined;
  /** Moves the keeper's deadlines. */
  setDeadlines(deadlines: ReadonlyMap<string, number>): Promise<void>;
}

/** Opens what the configuration asks for and the machine has. Nothing is started before it is needed. */
export async function openRuntimes(config: WorkerConfig, files: WorkerFiles): Promise<Runtimes> {
  const keeper = createKeeperClient({
    files,
    idleMs: config.keeperIdleMs,
    logMaxBytes: config.logMaxBytes,
    hide: config.hidePaths,
    controlGroups: config.controlGroups,
    ...(config.keeperProgram === "" ? {} : { program: config.keeperProgram }),
  });
  const all = await select(config, files, keeper);
  const byKind = new Map(all.map((runtime) => [runtime.kind, runtime]));
  return {
    all,
    // A no-op worker takes both kinds of task: that is what it pretends to be.
    names: byKind.has("noop") ? ["noop", "process", "container"] : [...byKind.keys()],
    runtimeFor(lease) {
      const wanted = lease.spec?.runtime.case;
      return byKind.get("noop") ?? (wanted === undefined ? undefined : byKind.get(wanted));
    },
    async setDeadlines(deadlines) {
      if (deadlines.size > 0) await all[0]?.setDeadlines(deadlines);
    },
    async [Symbol.asyncDispose]() {
      for (const runtime of all) await runtime[Symbol.asyncDispose]();
    },
  };
}

async function select(
  config: WorkerConfig,
  files: WorkerFiles,
  keeper: KeeperClient,
): Promise<Runtime[]> {
  const wanted = config.runtime === "auto" ? ["process", "container"] : config.runtime.split(",");
  if (wanted.includes("noop")) return [createNoopRuntime()];
  const all: Runtime[] = [];
  if (wanted.includes("process")) all.push(createProcessRuntime({ files, keeper }));
  if (wanted.includes("container")) {
    const container = await openContainers(config, files, keeper);
    if (container !== undefined) all.push(container);
    else if (config.runtime !== "auto") {
      throw new Fault("ILLEGAL_STATE", "no container engine on this machine", {
        hint: "install podman or docker, or set worker.runtime to process",
      });
    }
  }
  return all;
}

async function openContainers(
  config: WorkerConfig,
  files: WorkerFiles,
  keeper: KeeperClient,
): Promise<Runtime | undefined> {
  const { findEngine } = await import("./runtime/container/service.ts");
  const ownSocket = join(files.sockets, "podman.sock");
  const address = findEngine({ ownSocket, configured: config.engine });
  if (address === undefined) return undefined;
  const { openEngine } = await import("./runtime/container/open.ts");
  const { createContainerRuntime } = await import("./runtime/container/runtime.ts");
  return createContainerRuntime({ files, keeper, engine: openEngine(address) });
}

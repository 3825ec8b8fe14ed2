import { chmod, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { Logger } from "@fastgpu/telemetry/log";
import type { GpuDevice } from "../gpu/device.ts";
import type { AttemptStorage, Owner } from "../outputs/storage.ts";
import type { Launch, Runtime } from "../runtime/port.ts";
import type { End } from "./classify.ts";
import { folders } from "./launch.ts";
import type { Kept } from "./machine.ts";

/** Makes the input and output folders and fetches the inputs. Repeats are harmless. */
export async function prepareFolders(of: {
  readonly storage: AttemptStorage;
  readonly lease: Lease;
  readonly owner: Owner;
  readonly launch: Launch;
  readonly runtime: Runtime;
}): Promise<void> {
  const { host } = of.runtime.workFolder(of.launch.name);
  for (const folder of [folders.inputs, folders.outputs]) {
    const path = join(host, folder);
    await mkdir(path, { recursive: true, mode: 0o700 });
    // A container may run as any user; the folders above are closed to the host's.
    if (of.launch.image !== undefined) await chmod(path, 0o777);
  }
  for (const input of of.lease.spec?.inputs ?? []) {
    await of.storage.fetchInput(of.owner, input, join(host, folders.inputs));
  }
}

/** A process sees the host's devices: those promised must be there before it counts as running. */
export async function verifyDevices(gpus: readonly GpuDevice[]): Promise<void> {
  for (const { devicePath, simulated, uuid } of gpus) {
    if (simulated) continue;
    const found =
      devicePath === undefined ? undefined : await stat(devicePath).catch(() => undefined);
    if (found?.isCharacterDevice() !== true) throw new Error(`the device of ${uuid} is missing`);
  }
}

/** Stores the log of every end, a checkpoint to go on from, and the outputs of a good end. Rejects where the outputs cannot be kept. */
export async function keepFiles(of: {
  readonly storage: AttemptStorage;
  /** The attempt's own logger. */
  readonly log: Logger;
  readonly logPath: (attempt: string) => string;
  readonly lease: Lease;
  readonly owner: Owner;
  readonly runtime: Runtime | undefined;
  readonly end: End;
  /** Folder of the checkpoint that another worker may go on from; undefined: there is none. */
  readonly checkpoints: string | undefined;
}): Promise<Kept> {
  const { storage, owner, lease, runtime, checkpoints } = of;
  /** What is lost here does not spoil a result; a worker that leaves keeps it for the next one. */
  const orWarn = (what: string, work: Promise<string>): Promise<string> =>
    work.catch((error: unknown) => {
      if (owner.signal.aborted) throw error;
      of.log.warn({ err: error }, `the ${what} was not kept`);
      return "";
    });
  const path = of.logPath(lease.attempt);
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  const logArtifact =
    size > 0 ? await orWarn("log", storage.storeFile(owner, path, "output.log")) : "";
  const checkpointDigest =
    checkpoints === undefined
      ? ""
      : await orWarn(
          "checkpoint",
          storage.storeCheckpoint(owner, checkpoints, {
            task: lease.task,
            member: lease.gang?.rank ?? 0,
            epoch: lease.epoch,
            resumedDigest: lease.checkpoint?.manifestDigest ?? "",
          }),
        );
  const kept = { manifestDigest: "", logArtifact, checkpointDigest };
  if (of.end.exitClass !== "ok" || runtime === undefined) return kept;
  const folder = join(runtime.workFolder(lease.attempt).host, folders.outputs);
  const manifestDigest = await storage.storeOutputs(owner, folder, lease.spec?.outputs ?? []);
  return { ...kept, manifestDigest };
}

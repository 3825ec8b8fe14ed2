import { readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import type { EngineAddress } from "../../keeper/wire.ts";
import type { Launch } from "../port.ts";

/** What a container needs beyond its launch. */
export interface ContainerRequest {
  readonly launch: Launch;
  /** Host folder mounted writable at /work. */
  readonly workDir: string;
  /** Host folder mounted writable at /fastgpu: progress and element records. */
  readonly ioDir: string;
  /** Where the engine writes the container's log, where it lets us choose. */
  readonly logPath: string;
  readonly seccompPath: string;
  /** Command with the array's lane script around it, where there is an array. */
  readonly command: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export type CreateResult =
  | { readonly kind: "created" }
  | { readonly kind: "exists" }
  | { readonly kind: "no_image"; readonly message: string }
  | { readonly kind: "failed"; readonly message: string };

/** What came of asking a registry. `unknown`: nobody has it for us, asking again changes nothing. */
export type PullResult =
  | { readonly kind: "done" }
  | { readonly kind: "unknown"; readonly message: string }
  | { readonly kind: "unreachable"; readonly message: string };

/** A container as the engine sees it now. */
export interface ContainerView {
  readonly id: string;
  readonly state: "created" | "running" | "ended";
  /** First process, in the host's numbering; 0 where none lives. */
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
}

/** A container engine. Names are attempt ids. */
export interface Engine extends Disposable {
  readonly address: EngineAddress;
  /** Version text; rejects where the engine does not answer. */
  version(): Promise<string>;
  create(request: ContainerRequest): Promise<CreateResult>;
  /** Fetches an image from the registry that its name says, or that the engine is set to ask. */
  pull(image: string): Promise<PullResult>;
  /** Makes the container's process without running the task's code, where the engine can (podman). */
  init(name: string): Promise<{ kind: "done" } | { kind: "failed"; message: string }>;
  start(name: string): Promise<{ kind: "done" } | { kind: "failed"; message: string }>;
  inspect(name: string): Promise<ContainerView | undefined>;
  /** Resolves with the exit code when the container has ended. */
  wait(name: string, signal: AbortSignal): Promise<number>;
  signal(name: string, signal: NodeJS.Signals): Promise<void>;
  /** Kills where needed and removes. */
  remove(name: string): Promise<void>;
  /** Names of all containers with the label. */
  list(label: string): Promise<string[]>;
  /** Makes the image `name` from a root file system as a tar stream, or loads an image archive. */
  importImage(name: string, tar: Readable): Promise<void>;
  /**
   * Output after `sinceNs` as the engine keeps it, with `follow` until the container ends; undefined for engines that
   * write the log file we name.
   */
  readonly readLog:
    | ((
        from: {
          readonly name: string;
          readonly sinceNs: bigint;
          readonly follow: boolean;
          readonly signal: AbortSignal;
        },
        onLine: (stream: "stdout" | "stderr", timeNs: bigint, data: Buffer) => void,
      ) => Promise<void>)
    | undefined;
}

/** Inside uid 0 is this uid outside: nobody on the host. One range, so that image layers are mapped once. */
export const userNamespace = { hostId: 231_072, size: 65_536 } as const;

/** Where a task finds its own folders inside. */
export const insidePaths = { work: "/work", io: "/fastgpu", checkpoints: "/checkpoints" } as const;

/** Limits every container has, whatever its launch says. */
export const defaultPids = 4_096;

/** At most 32,768, which podman leaves to itself, and no more than this process may have itself. */
export function limitOf(name: string): { soft: number; hard: number } {
  const line = readFileSync("/proc/self/limits", "utf8")
    .split("\n")
    .find((candidate) => candidate.startsWith(name));
  const hard = Number(line?.slice(name.length).trim().split(/\s+/)[1]);
  const value = Number.isFinite(hard) ? Math.min(32_768, hard) : 32_768;
  return { soft: value, hard: value };
}

import { z } from "zod";

/** Settings of a worker: the section `worker` of `fastgpu.yaml`. */
export const workerConfig = z.strictObject({
  /** Where this worker keeps its identity, journal and attempts; one worker each. */
  directory: z.string().min(1),
  /** Name of the machine for people; empty = the host's name. */
  name: z.string().max(128).default(""),
  /** `host:port` or `unix:/path`. */
  scheduler: z.string().min(1),
  auth: z.string().min(1),
  storage: z.string().min(1),
  /** Where samples go; empty = none are published. */
  natsUrl: z.string().default(""),
  /** First word of all subjects; installations that share a NATS server have one each. */
  natsPrefix: z.string().min(1).default("fastgpu"),
  /** Single-use token of a worker's first start. */
  joinToken: z.string().default(""),
  /** PEM file of the authority that the services' certificates come from; empty = clear text. */
  tlsCaFile: z.string().default(""),
  /**
   * `auto`: containers where there is an engine, and processes. Else a list with commas of `container`, `process` and
   * `noop`, which executes nothing (simulated) and then takes every task.
   */
  runtime: z
    .string()
    .regex(/^(auto|(container|process|noop)(,(container|process|noop))*)$/)
    .default("auto"),
  /** A container engine's socket; by default podman's or Docker's is found, or podman is started. */
  engine: z
    .strictObject({ kind: z.enum(["podman", "docker"]), socket: z.string().min(1) })
    .optional(),
  /** Look for real GPUs; without this none are announced but simulated ones. */
  realGpus: z.boolean().default(true),
  /** Simulated GPUs to announce where no real one is found; 0 = none. */
  simulatedGpus: z.int().min(0).max(64).default(0),
  /** CPU offered, in thousandths of a core; 0 = all of the machine's. */
  cpuMillis: z.int().min(0).default(0),
  /** Memory offered, in MiB; 0 = all of the machine's. */
  memoryMib: z.int().min(0).default(0),
  /** Time that a stop at a lease's end and its kill may take, in milliseconds. */
  leaseMarginMs: z.int().min(200).max(60_000).default(2_000),
  /**
   * Places that hold the machine, by kind, for gangs that must lie close together or apart, for example
   * `{ rack: r12, nvlink: nv3 }`.
   */
  topology: z
    .record(z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/), z.string().min(1).max(63))
    .refine((places) => Object.keys(places).length <= 16, "at most 16 places")
    .default({}),
  /** Interval of samples, in milliseconds. */
  sampleIntervalMs: z.int().min(100).default(2_000),
  /** Greatest log of one attempt, in bytes. */
  logMaxBytes: z.int().min(1_024).default(1_073_741_824),
  /** A task's checkpoints on this worker stay this long without an attempt that uses them, in milliseconds. */
  checkpointKeepMs: z.int().min(1_000).default(604_800_000),
  /** Folders that process tasks must not see, beside the worker's own. */
  hidePaths: z.array(z.string()).default([]),
  /**
   * Control groups for processes: `auto` where they may be made; `off` where they belong to somebody else. Without them
   * memory is bounded by sampling, CPU and number of processes are not.
   */
  controlGroups: z.enum(["auto", "off"]).default("auto"),
  /** The keeper leaves after this long with nothing to keep, in milliseconds. */
  keeperIdleMs: z.int().min(100).default(15_000),
  /** The keeper's program where the worker is bundled; empty = the one beside the source. */
  keeperProgram: z.string().default(""),
  /** End tasks when the worker stops, instead of leaving them to the keeper. */
  stopTasks: z.boolean().default(false),
});

/** Parsed settings. */
export type WorkerConfig = z.output<typeof workerConfig>;

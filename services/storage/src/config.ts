import { z } from "zod";

const HOUR_MS = 3_600_000;

/** Configuration of the storage service. */
export const storageConfig = z.strictObject({
  /** Where it serves: a unix socket, or a TCP port. */
  listen: z.union([
    z.strictObject({ path: z.string().min(1) }),
    z.strictObject({ host: z.string().min(1), port: z.number().int().min(0).max(65_535) }),
  ]),
  /** Connection strings of the service's roles. */
  database: z.strictObject({ api: z.string().min(1), core: z.string().min(1) }),
  /** NATS server. */
  natsUrl: z.string().min(1),
  /** First word of all subjects; installations that share a NATS server have one each. */
  natsPrefix: z.string().min(1).default("fastgpu"),
  /** File of the master key; made at the first start. */
  masterKeyFile: z.string().min(1),
  /** Directory of the chunks; made if missing. Replicas share it. */
  directory: z.string().min(1),
  /** Public keys (PEM) of the services that may call, by their names. The scheduler's verifies workers' grants. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), for calls to auth. */
  privateKeyPem: z.string().min(1),
  /** Address of auth: keys that verify tokens, and whose a project is. */
  auth: z.string().min(1),
  /** Address of the scheduler's event log: checkpoints go when their tasks have ended. */
  scheduler: z.string().min(1),
  /**
   * Refuses a worker without a storage grant. False only while schedulers or workers of a version before grants run: they
   * then store and read files of any project.
   */
  requireGrants: z.boolean().default(true),
  /** Greatest size of a file, in bytes; 1 TiB. */
  maxArtifactBytes: z
    .number()
    .int()
    .positive()
    .max(2 ** 50)
    .default(2 ** 40),
  /** Uploads that run at once; each holds up to 8 MiB. One organisation gets at most half of them. */
  maxUploads: z.number().int().positive().default(64),
  /** Downloads that run at once; each holds up to 4 MiB. One organisation gets at most half of them. */
  maxDownloads: z.number().int().positive().default(256),
  /** An upload stream that sends nothing for this long is broken off, to be resumed; in milliseconds. */
  uploadSilenceMs: z.number().int().positive().default(60_000),
  /** An upload without progress for this long is given up, in milliseconds. */
  uploadIdleMs: z
    .number()
    .int()
    .positive()
    .default(24 * HOUR_MS),
  /** How often what nothing names is removed, in milliseconds. */
  collectEveryMs: z.number().int().positive().default(HOUR_MS),
  /** Allows clear text on an address that other machines reach. */
  insecure: z.boolean().default(false),
});

export type StorageConfig = z.output<typeof storageConfig>;

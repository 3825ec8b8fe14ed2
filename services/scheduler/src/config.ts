import { z } from "zod";

const listen = z.union([
  z.strictObject({ path: z.string().min(1) }),
  z.strictObject({ host: z.string().min(1), port: z.number().int().min(0).max(65_535) }),
]);

/** Configuration of the scheduler. Durations in milliseconds. */
export const schedulerConfig = z.strictObject({
  /** Where other services and the gateway call: a unix socket, or a TCP port. */
  listen,
  /** Where workers dial. */
  workerListen: listen.default({ host: "127.0.0.1", port: 7601 }),
  /** Name of this replica, one word; unique among the replicas. */
  replica: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .default("scheduler-0"),
  /** Connection strings of the service's roles. */
  database: z.strictObject({ api: z.string().min(1), core: z.string().min(1) }),
  /** NATS server. */
  natsUrl: z.string().min(1),
  /** First word of all subjects; installations that share a NATS server have one each. */
  natsPrefix: z.string().min(1).default("fastgpu"),
  /** File of the master key; made at the first start. */
  masterKeyFile: z.string().min(1),
  /** Public keys (PEM) of the services that may call, by their names. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), for calls to others. */
  privateKeyPem: z.string().min(1),
  /** Addresses of the services it calls. */
  auth: z.string().min(1),
  billing: z.string().min(1),
  storage: z.string().min(1),
  /** Lifetime of a node's lease; renewed every third of it. */
  leaseTtlMs: z.number().int().min(500).max(600_000).default(15_000),
  /** Time beyond a lease's end before its work is placed again. */
  skewMs: z.number().int().min(0).max(60_000).default(2_000),
  /** A worker stops an attempt this long before its lease ends. */
  marginMs: z.number().int().min(0).max(60_000).default(3_000),
  /**
   * Life of a storage grant, twice `leaseTtlMs` at least: renewed when half of it is over, for as long as the attempt
   * lives. So long after its end a worker may still store files as the attempt, and so long it stores without a session.
   */
  storageGrantTtlMs: z.number().int().min(1_000).max(86_400_000).default(600_000),
  /** Billable time that a hold covers ahead. */
  coverMs: z.number().int().min(1_000).max(86_400_000).default(120_000),
  /** The scheduling policy, YAML: read while this replica leads, and again whenever it changes. No file: no news. */
  policyFile: z.string().min(1).optional(),
  /**
   * Directory in which the leader keeps what its planner is given and decides, for `fastgpu scheduler replay`; without
   * one nothing is recorded.
   */
  recordingDirectory: z.string().min(1).optional(),
  /** All recordings together, in MiB; the oldest go first. 0: nothing is recorded. */
  recordingMaxMib: z.number().int().min(0).max(1_048_576).default(256),
  /** A recording ends at this size, and the next begins with the whole state. */
  recordingSegmentMib: z.number().int().min(1).max(1_024).default(16),
  /** Allows clear text on an address that other machines reach. */
  insecure: z.boolean().default(false),
});

export type SchedulerConfig = z.output<typeof schedulerConfig>;

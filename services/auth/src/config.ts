import { z } from "zod";

/** Configuration of the auth service. */
export const authConfig = z.strictObject({
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
  /** Marks API keys of this installation, so that a key pasted into another one says so. */
  env: z
    .string()
    .regex(/^[0-9a-z]{1,16}$/)
    .default("local"),
  /** Public keys (PEM) of the services that may call, by their names. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), with which it reads the others' event logs. */
  privateKeyPem: z.string().min(1),
  /** Addresses of the other services, by their names: the audit facts of their event logs are chained here. */
  producers: z.record(z.string(), z.string()).default({}),
  /** Append-only file outside the database that gets a copy of every audit checkpoint; empty: none. */
  auditWitnessFile: z.string().default(""),
  /** How often grown audit chains get a signed checkpoint, in milliseconds. */
  auditCheckpointEveryMs: z.number().int().positive().default(60_000),
  /** Allows clear text on an address that other machines reach. */
  insecure: z.boolean().default(false),
});

export type AuthConfig = z.output<typeof authConfig>;

import { z } from "zod";

/** Configuration of the auth service. */
export const authConfig = z.strictObject({
  /** host:port, or `unix:PATH`; port 0 is any free one. */
  listen: z.string().min(1),
  /** Connection strings of the service's roles. */
  database: z.strictObject({ api: z.string().min(1), core: z.string().min(1) }),
  /** NATS server. */
  natsUrl: z.string().min(1),
  /** File of the master key; made at the first start. */
  masterKeyFile: z.string().min(1),
  /** Marks API keys of this installation, so that a key pasted into another one says so. */
  env: z
    .string()
    .regex(/^[0-9a-z]{1,16}$/)
    .default("local"),
  /** Public keys (PEM) of the services that may call, by their names. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** Addresses of the event logs of other services, by their names: their audit facts are chained here. */
  producers: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), for calls to those logs. */
  privateKeyPem: z.string().default(""),
  /** Append-only file outside the database that gets a copy of every audit checkpoint; empty: none. */
  auditWitnessFile: z.string().default(""),
  /** How often grown audit chains get a signed checkpoint, in milliseconds. */
  auditCheckpointEveryMs: z.number().int().positive().default(60_000),
});

export type AuthConfig = z.output<typeof authConfig>;

import { z } from "zod";

/** Configuration of the billing service. */
export const billingConfig = z.strictObject({
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
  /** Public keys (PEM) of the services that may call, by their names. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), for calls to others. */
  privateKeyPem: z.string().min(1),
  /** Address of auth: keys that verify tokens, and whose a project is. */
  auth: z.string().min(1),
  /** Addresses of the event logs that billing reads. `scheduler` gives usage, `auth` new organisations. */
  producers: z.strictObject({ scheduler: z.string().min(1), auth: z.string().min(1) }),
  /** Credit of the first organisation, in whole US dollars. */
  startingCreditUsd: z.number().int().min(0).max(1_000_000).default(100),
  /** Credit of every other organisation, in whole US dollars. */
  otherStartingCreditUsd: z.number().int().min(0).max(1_000_000).default(0),
  /** How often to look for events that NATS lost, in milliseconds. */
  fillEveryMs: z.number().int().positive().default(10_000),
  /** Allows clear text on an address that other machines reach. */
  insecure: z.boolean().default(false),
});

export type BillingConfig = z.output<typeof billingConfig>;

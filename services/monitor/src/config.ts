import { z } from "zod";

/** Configuration of the monitor service. Durations in milliseconds. */
export const monitorConfig = z.strictObject({
  /** Where it serves: a unix socket, or a TCP port. */
  listen: z.union([
    z.strictObject({ path: z.string().min(1) }),
    z.strictObject({ host: z.string().min(1), port: z.number().int().min(0).max(65_535) }),
  ]),
  /** Where Prometheus reads `/metrics`; port 0 is any free one. */
  metrics: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1"),
      port: z.number().int().min(0).max(65_535).default(7602),
    })
    .prefault({}),
  /** NATS server. */
  natsUrl: z.string().min(1),
  /** First word of all subjects; installations that share a NATS server have one each. */
  natsPrefix: z.string().min(1).default("fastgpu"),
  /** Public keys (PEM) of the services that may call, by their names. */
  serviceKeys: z.record(z.string(), z.string()).default({}),
  /** This service's own private key (PEM), for calls to others. */
  privateKeyPem: z.string().min(1),
  /** Address of auth: keys that verify tokens. */
  auth: z.string().min(1),
  /** Address of the scheduler: names of nodes. */
  scheduler: z.string().min(1),
  /** Silence after which a GPU's state is unknown. */
  staleMs: z.number().int().min(100).max(3_600_000).default(15_000),
  /** Silence after which a node or GPU is no longer listed. */
  forgetMs: z.number().int().min(900_000).max(604_800_000).default(3_600_000),
  /** Least distance of two samples in the history of 15 minutes; closer ones replace each other. */
  historyStepMs: z.number().int().min(100).max(60_000).default(1_000),
  /** GPUs kept at most: each takes up to 72 KB with its history. */
  maxGpus: z.number().int().min(1).max(1_000_000).default(20_000),
  /** Temperature from which a GPU counts as unhealthy, in °C. */
  maxTemperatureCelsius: z.number().min(40).max(150).default(95),
  /** Allows clear text on addresses that other machines reach. */
  insecure: z.boolean().default(false),
});

export type MonitorConfig = z.output<typeof monitorConfig>;

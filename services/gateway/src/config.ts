import { z } from "zod";

/** Configuration of the gateway. */
export const gatewayConfig = z.strictObject({
  /** Address to listen on; other than loopback needs `tls` or `insecure`. */
  host: z.string().min(1).default("127.0.0.1"),
  /** Port; 0 is any free one. */
  port: z.number().int().min(0).max(65_535).default(7600),
  /** Allows clear text on an address that other machines reach. */
  insecure: z.boolean().default(false),
  /** Files of the certificate chain and its key (PEM); absent: clear text. */
  tls: z.strictObject({ certFile: z.string().min(1), keyFile: z.string().min(1) }).optional(),
  /** Where the services are: `unix:PATH` or `host:port`. */
  upstreams: z.strictObject({
    auth: z.string().min(1),
    scheduler: z.string().min(1),
    billing: z.string().min(1),
    monitor: z.string().min(1),
    storage: z.string().min(1),
  }),
  /** Calls a second that one tenant may make, and how many at once after a pause. */
  rateLimit: z
    .strictObject({
      callsPerSecond: z.number().positive().default(5_000),
      burst: z.number().int().positive().default(10_000),
    })
    .prefault({}),
  /** How often a key in use is exchanged again: the longest time that a revoked key still opens calls here. */
  keyRecheckMs: z.number().int().positive().default(60_000),
  /** How long calls may take to end at shutdown, in milliseconds. */
  drainMs: z.number().int().min(0).default(5_000),
});

export type GatewayConfig = z.output<typeof gatewayConfig>;

/** The services that the gateway passes calls to. */
export type UpstreamName = keyof GatewayConfig["upstreams"];

import { join } from "node:path";
import { startNatsServer } from "@fastgpu/events/server";
import type { NatsServer } from "@fastgpu/events/server";
import type { Logger } from "@fastgpu/telemetry/log";

/** Options of {@link startNats}. */
export interface StartNatsOptions {
  /** DATA; the caller holds its lock. */
  readonly dataDir: string;
  /** Missing = any free port of the loopback address. */
  readonly port?: number | undefined;
  readonly password: string;
  /** PATH, to look for an installed nats-server. */
  readonly path: string;
  readonly log: Logger;
}

/** Starts the embedded nats-server, its store in DATA/nats. */
export function startNats(options: StartNatsOptions): Promise<NatsServer> {
  return startNatsServer({ ...options, dataDir: join(options.dataDir, "nats") });
}

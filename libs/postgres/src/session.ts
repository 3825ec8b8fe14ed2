import type { Logger } from "@fastgpu/telemetry/log";
import pg from "pg";
import { toFault } from "./errors.ts";
import { clientConfig, run } from "./pool.ts";
import type { Querier } from "./pool.ts";

/** One connection of our own, outside any pool: what holds a session-level advisory lock. */
export interface Session extends Querier, AsyncDisposable {
  command(text: string): Promise<void>;
  /** Aborted when the connection is gone, and with it every lock it held. */
  readonly lost: AbortSignal;
}

/**
 * Connects. The server drops the session of a machine that vanished after some 11 s (keep-alives),
 * so that its locks do not outlive it for long.
 */
export async function openSession(options: {
  readonly url: string;
  readonly name: string;
  readonly log: Logger;
}): Promise<Session> {
  const client = new pg.Client({ ...clientConfig(options), keepAliveInitialDelayMillis: 5_000 });
  const lost = new AbortController();
  const lose = (error?: Error): void => {
    if (!lost.signal.aborted && error !== undefined)
      options.log.warn({ reason: error.message, session: options.name }, "session lost");
    lost.abort();
  };
  client.on("error", lose);
  client.on("end", () => lose());
  try {
    await client.connect();
    await client.query(
      "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 11000",
    );
  } catch (error) {
    await client.end().catch(() => undefined);
    throw toFault(error);
  }
  return {
    query: (statement, values) => run(client, statement, values),
    command: async (text) => void (await client.query(text)),
    lost: lost.signal,
    async [Symbol.asyncDispose]() {
      await client.end().catch(() => undefined);
      lost.abort();
    },
  };
}

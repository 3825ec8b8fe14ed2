import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { endLeftovers, freePort, startChild } from "@fastgpu/lifecycle/child";
import type { Child, ChildOptions } from "@fastgpu/lifecycle/child";
import type { Logger } from "@fastgpu/telemetry/log";
import { locateNatsServer } from "./binary.ts";

/** Options of {@link startNatsServer}. */
export interface NatsServerOptions {
  /** The server's own directory (DATA/nats). The caller holds DATA's lock. */
  readonly dataDir: string;
  /** Missing = any free port of the loopback address. */
  readonly port?: number | undefined;
  /** Password of the user `fastgpu`; letters and digits. */
  readonly password: string;
  readonly log: Logger;
  /** PATH to search for an installed server. */
  readonly path: string;
  readonly cacheDir?: string | undefined;
}

/** A running nats-server of our own. */
export interface NatsServer extends AsyncDisposable {
  /** With user and password. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

const stopSignals: ChildOptions["stopSignals"] = [{ signal: "SIGTERM", waitMs: 10_000 }];

/**
 * Starts nats-server with JetStream on the loopback address and keeps it running. Its store is
 * disposable: one that keeps the server from starting is emptied, and the events come again from
 * the producers' outboxes.
 */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const command = await locateNatsServer(options);
  const dataDir = resolve(options.dataDir);
  const store = join(dataDir, "jetstream");
  const config = configPath(dataDir);
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort());
  // A name of this start: an answer on the port counts only when it carries it.
  const serverName = `fastgpu-${randomBytes(6).toString("hex")}`;
  await rm(config, { force: true });
  await writeFile(config, configText({ port, store, serverName, password: options.password }), {
    mode: 0o600,
  });
  const start = (): Promise<Child> =>
    startChild({
      name: "nats-server",
      command,
      args: ["--config", config],
      // Go would otherwise take a thread per core and grow its heap freely before collecting.
      env: { PATH: "/usr/bin:/bin", GOMAXPROCS: "2", GOMEMLIMIT: "96MiB", GOGC: "50" },
      logFile: join(dataDir, "nats.log"),
      log: options.log,
      prepare: () => endNatsLeftovers(dataDir),
      isReady: () => answers(port, serverName),
      readyTimeoutMs: 30_000,
      stopSignals,
    });
  const child = await start().catch(async (error: unknown) => {
    options.log.warn({ err: error }, "nats-server does not start; trying with an empty store");
    await rm(store, { recursive: true, force: true });
    return start();
  });
  return {
    url: `nats://fastgpu:${encodeURIComponent(options.password)}@127.0.0.1:${port}`,
    port,
    get pid() {
      return child.pid;
    },
    stop: () => child.stop(),
    [Symbol.asyncDispose]: () => child.stop(),
  };
}

/** Ends a server that a crash left on this directory. */
export async function endNatsLeftovers(dataDir: string): Promise<void> {
  const config = configPath(dataDir);
  await endLeftovers(
    (info) => info.program === "nats-server" && info.args.includes(config),
    stopSignals,
  );
}

function configPath(dataDir: string): string {
  return join(resolve(dataDir), "nats.conf");
}

/** The store's limit is nominal: what bounds the disk is each stream's own. */
function configText(at: {
  port: number;
  store: string;
  serverName: string;
  password: string;
}): string {
  return [
    `listen: "127.0.0.1:${at.port}"`,
    `server_name: "${at.serverName}"`,
    `max_payload: 8MB`,
    `jetstream { store_dir: ${JSON.stringify(at.store)}, max_memory_store: 64MB, max_file_store: 64GB }`,
    `authorization { users: [ { user: "fastgpu", password: ${JSON.stringify(at.password)} } ] }`,
    "",
  ].join("\n");
}

/** The server greets with one INFO line; ours says its name, and that JetStream is on. */
function answers(port: number, serverName: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ port, host: "127.0.0.1" });
    let text = "";
    const finish = (yes: boolean): void => {
      socket.destroy();
      done(yes);
    };
    socket.setTimeout(1_000, () => finish(false));
    socket.on("error", () => finish(false));
    socket.on("close", () => finish(false));
    socket.on("data", (chunk) => {
      text += chunk.toString("utf8");
      if (text.includes("\r\n"))
        finish(text.includes(serverName) && text.includes('"jetstream":true'));
    });
  });
}

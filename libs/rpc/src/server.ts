import type { Clock } from "@fastgpu/domain/clock";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import { Server, ServerCredentials, logVerbosity, setLogVerbosity } from "@grpc/grpc-js";
import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { toServiceDefinition } from "./adapter.ts";
import type { Authenticator } from "./authenticator.ts";
import type { BoundService } from "./handlers.ts";
import { createHealth } from "./health.ts";
import { limits } from "./limits.ts";
import { checkBind, clearSocket, guardSocket, takenAddress } from "./listen.ts";
import type { Listen } from "./listen.ts";
import { planService } from "./method-plan.ts";
import type { FinishedCall } from "./open-call.ts";
import { reflectionServices } from "./reflection.ts";
import { serveMethod } from "./serve.ts";
import type { ServeHost } from "./serve.ts";

// What goes wrong in the transport reaches our callers as faults; grpc-js itself would write to standard error.
setLogVerbosity(logVerbosity.NONE);

/** A certificate with its key, and whose certificates clients must show. All PEM. */
export interface ServerTls {
  readonly certPem: string;
  readonly keyPem: string;
  /** Clients must show a certificate of this authority; missing: none is asked for. */
  readonly clientCaPem?: string;
}

/** Options of {@link startServer}. */
export interface ServerOptions {
  readonly listen: Listen;
  /** Made with `service(TaskService, handlers)`. */
  readonly services: readonly BoundService[];
  readonly auth: Authenticator;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracing: Tracing;
  /** Closes the server, with `drainMs`, when aborted. */
  readonly stop?: AbortSignal;
  /** How long calls may take to end once `stop` is aborted, in milliseconds. Default 5,000. */
  readonly drainMs?: number;
  readonly tls?: ServerTls;
  /** Allows clear text on an address that other machines reach. */
  readonly insecure?: boolean;
  /** Calls that may be open at once; one more is refused with UNAVAILABLE, so that an overload is not queued. */
  readonly maxOpenCalls?: number;
  /** Told of every finished call, for metrics and for the audit of refusals. */
  readonly observe?: (call: FinishedCall) => void;
}

/** A running server. */
export interface RunningServer {
  /** What clients dial: `unix:/path` or `host:port`. */
  readonly address: string;
  /** The TCP port, or undefined on a unix socket. */
  readonly port: number | undefined;
  /**
   * Drains: refuses new calls, ends response streams with DRAINING, lets other calls finish for `graceMs`, then breaks
   * them off. Resolves when nothing is left; more calls of it wait for the same end.
   */
  close(graceMs: number): Promise<void>;
  /** Resolves once the server is closed. */
  readonly closed: Promise<void>;
}

/**
 * Starts a gRPC server with health and reflection. A method without authorisation, or a handler that is missing, fails
 * here; so does a taken address, as a Fault that names it.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { listen, log } = options;
  checkBind(listen, { tls: options.tls !== undefined, insecure: options.insecure === true });
  const host: ServeHost = {
    auth: options.auth,
    clock: options.clock,
    log,
    tracing: options.tracing,
    observe: options.observe,
    maxOpenCalls: options.maxOpenCalls ?? limits.openCalls,
    open: new Set(),
    draining: false,
  };
  const descriptors = options.services.map((bound) => bound.descriptor);
  const health = createHealth(descriptors.map((descriptor) => descriptor.typeName));
  const server = new Server(serverOptions);
  for (const bound of options.services) addService(server, host, { bound, open: false });
  for (const bound of [
    health.bound,
    ...reflectionServices([...descriptors, health.bound.descriptor]),
  ]) {
    addService(server, host, { bound, open: true });
  }
  const port = await bind(server, listen, options.tls);
  const closed = Promise.withResolvers<void>();
  let closing: Promise<void> | undefined;
  const close = (graceMs: number): Promise<void> => {
    closing ??= drain({ server, host, graceMs, begin: health.drain }).finally(closed.resolve);
    return closing;
  };
  const onStop = (): void => void close(options.drainMs ?? 5_000);
  if (options.stop?.aborted === true) onStop();
  else options.stop?.addEventListener("abort", onStop, { once: true });
  return {
    address: "path" in listen ? `unix:${listen.path}` : `${urlHost(listen.host)}:${port}`,
    port: "path" in listen ? undefined : port,
    close,
    closed: closed.promise,
  };
}

const serverOptions = {
  "grpc.max_receive_message_length": limits.transportMessageBytes,
  "grpc.max_send_message_length": limits.transportMessageBytes,
  "grpc.max_concurrent_streams": limits.serviceConcurrentStreams,
  "grpc-node.flow_control_window": limits.flowWindowBytes,
  "grpc.keepalive_time_ms": limits.keepaliveMs,
  "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
  // Channelz keeps a record of every call and socket, for a protocol that nobody here speaks.
  "grpc.enable_channelz": 0,
};

function addService(
  server: Server,
  host: ServeHost,
  added: { readonly bound: BoundService; readonly open: boolean },
): void {
  const implementation: UntypedServiceImplementation = {};
  for (const plan of planService(added.bound, { open: added.open })) {
    implementation[plan.method.localName] = serveMethod(host, plan);
  }
  server.addService(toServiceDefinition(added.bound.descriptor), implementation);
}

async function bind(server: Server, listen: Listen, tls: ServerTls | undefined): Promise<number> {
  if ("path" in listen) await clearSocket(listen.path);
  const target =
    "path" in listen ? `unix:${listen.path}` : `${urlHost(listen.host)}:${listen.port}`;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(target, credentialsOf(tls), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  }).catch(async (error: unknown) => {
    server.forceShutdown();
    throw await takenAddress(target, "path" in listen ? 0 : listen.port, error);
  });
  if ("path" in listen) await guardSocket(listen.path);
  return port;
}

function credentialsOf(tls: ServerTls | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { clientCaPem } = tls;
  return ServerCredentials.createSsl(
    clientCaPem === undefined ? null : Buffer.from(clientCaPem),
    [{ cert_chain: Buffer.from(tls.certPem), private_key: Buffer.from(tls.keyPem) }],
    clientCaPem !== undefined,
  );
}

function urlHost(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

async function drain(options: {
  readonly server: Server;
  readonly host: ServeHost;
  readonly graceMs: number;
  readonly begin: () => void;
}): Promise<void> {
  const { server, host, graceMs } = options;
  host.draining = true;
  options.begin();
  const idle = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  for (const call of host.open) if (call.streamsResponses) call.stop("shutdown");
  const settled = new AbortController();
  void idle.then(() => settled.abort());
  await sleep(graceMs, settled.signal);
  for (const call of host.open) call.stop("shutdown");
  // One more turn, so that the refusals are written before the sockets go.
  if (!settled.signal.aborted) await sleep(20, settled.signal);
  server.forceShutdown();
  await idle;
}

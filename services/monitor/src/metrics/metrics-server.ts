import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Fault } from "@fastgpu/domain/fault";
import { checkBind } from "@fastgpu/rpc/listen";
import type { Logger } from "@fastgpu/telemetry/log";

/** What is served: `prom-client`'s registry fits. */
export interface Metrics {
  readonly contentType: string;
  metrics(): Promise<string>;
}

/** Options of {@link startMetricsServer}. */
export interface MetricsServerOptions {
  readonly host: string;
  /** 0 is any free one. */
  readonly port: number;
  /** Allows an address that other machines reach. */
  readonly insecure: boolean;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** A running endpoint. */
export interface MetricsServer extends AsyncDisposable {
  readonly port: number;
}

/** Serves `GET /metrics` for Prometheus. A taken address is a Fault that names it and the setting. */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, port } = options;
  checkBind({ host, port }, { tls: false, insecure: options.insecure });
  const server = createServer((request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      options.log.error({ err: error }, "metrics could not be read");
      response.writeHead(500).end();
    });
  });
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  }).catch((error: unknown) => {
    throw new Fault("ILLEGAL_STATE", `cannot serve metrics on ${host}:${port}`, {
      hint: "another process has this port: stop it, or set monitor.metrics.port",
      cause: error,
    });
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    [Symbol.asyncDispose]() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function answer(
  { metrics }: MetricsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? "").split("?")[0];
  if (path !== "/metrics") {
    response.writeHead(404, { "content-type": "text/plain" }).end("see /metrics\n");
  } else if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { allow: "GET, HEAD" }).end();
  } else {
    const body = await metrics.metrics();
    response.writeHead(200, { "content-type": metrics.contentType }).end(body);
  }
}

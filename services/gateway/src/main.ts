import { readFile } from "node:fs/promises";
import { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { Fault } from "@fastgpu/domain/fault";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { aborted } from "@fastgpu/lifecycle/signals";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Client } from "@fastgpu/rpc/client";
import { createHealth } from "@fastgpu/rpc/health";
import { checkBind } from "@fastgpu/rpc/listen";
import { faultOfStop } from "@fastgpu/rpc/open-call";
import type { JSONWebKeySet } from "jose";
import type { AdmissionHost } from "./admission.ts";
import type { GatewayConfig, UpstreamName } from "./config.ts";
import type { ConnectHandler } from "./connect.ts";
import { createKeyExchange } from "./exchange.ts";
import { proxyGrpc } from "./grpc-proxy.ts";
import type { GrpcProxyHost } from "./grpc-proxy.ts";
import { listen } from "./listener.ts";
import type { Listener } from "./listener.ts";
import { answerPage, unknownPath } from "./pages.ts";
import type { Pages } from "./pages.ts";
import { createRateLimit } from "./rate-limit.ts";
import { isMethodPath, publicServices, routes } from "./routes.ts";
import { createUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

/** Runs the gateway until `context.stop`. */
export async function main(config: GatewayConfig, context: ServiceContext): Promise<void> {
  await using gateway = await startGateway(config, context);
  context.log.info({ port: gateway.port }, "the gateway listens");
  context.ready();
  await aborted(context.stop);
}

/** A running gateway. */
export interface Gateway extends AsyncDisposable {
  readonly port: number;
}

/** Opens the public port. Disposing drains: new calls are refused, streams end, the rest has `drainMs`. */
export async function startGateway(
  config: GatewayConfig,
  context: Pick<ServiceContext, "clock" | "log" | "tracing">,
): Promise<Gateway> {
  checkBind(
    { host: config.host, port: config.port },
    { tls: config.tls !== undefined, insecure: config.insecure },
  );
  const auth = createChannel({ address: config.upstreams.auth, tracing: context.tracing });
  const upstreams = mapValues(config.upstreams, createUpstream);
  const admission = createAdmission(config, context, createClient(TokenService, auth));
  const draining = new AbortController();
  const services = publicServices.map(([service]) => service);
  const health = createHealth(services.map((service) => service.typeName));
  const proxy: GrpcProxyHost = { ...admission, upstreams, open: new Set() };
  const connect = lazily(async () => {
    const { createConnectHandler } = await import("./connect.ts");
    return createConnectHandler({
      ...admission,
      upstreams,
      health: health.handlers,
      services,
      log: context.log,
      draining: draining.signal,
    });
  });
  const pages: Pages = { serving: () => !draining.signal.aborted };
  const listener = await openPort(config);
  answerFrom(listener, { proxy, connect, pages });
  return {
    port: listener.port,
    async [Symbol.asyncDispose]() {
      draining.abort();
      health.drain();
      endStreams(proxy, faultOfStop("shutdown"));
      await listener.close(config.drainMs);
      for (const upstream of Object.values(upstreams)) upstream.close();
      auth.close();
    },
  };
}

function createAdmission(
  config: GatewayConfig,
  { clock, tracing }: Pick<ServiceContext, "clock" | "tracing">,
  tokens: Client<typeof TokenService>,
): AdmissionHost {
  return {
    tracing,
    rateLimit: createRateLimit({ ...config.rateLimit, clock }),
    authenticator: createAuthenticator({
      service: "gateway",
      clock,
      // Services call each other directly, never through the public port.
      serviceKeys: {},
      resolveProject: () => undefined,
      loadKeys: async () => {
        const { jwksJson } = await tokens.getJwks({});
        return JSON.parse(jwksJson) as JSONWebKeySet;
      },
    }),
    exchange: createKeyExchange({
      clock,
      recheckMs: config.keyRecheckMs,
      exchange: async (apiKey) => {
        const answer = await tokens.exchangeToken(
          { credential: { case: "apiKey", value: apiKey } },
          { timeoutMs: 10_000 },
        );
        return {
          accessToken: answer.accessToken,
          expiresAtMs: answer.expireTime === undefined ? 0 : timestampMs(answer.expireTime),
          organization: answer.organization,
          principal: answer.principal,
        };
      },
    }),
  };
}

async function openPort(config: GatewayConfig): Promise<Listener> {
  const { host, port, tls } = config;
  if (tls === undefined) return listen({ host, port });
  const [cert, key] = await Promise.all([
    readFile(tls.certFile, "utf8"),
    readFile(tls.keyFile, "utf8"),
  ]);
  return listen({ host, port, tls: { cert, key } });
}

/** A gateway that only passes gRPC on never loads the other protocols: a tenth of an idle platform's memory. */
function lazily(make: () => Promise<ConnectHandler>): ConnectHandler {
  let made: Promise<ConnectHandler> | undefined;
  let ready: ConnectHandler | undefined;
  return (request, response) => {
    if (!isMethodPath(request.url?.split("?", 1)[0] ?? "")) return false;
    if (ready !== undefined) return ready(request, response);
    made ??= make();
    made.then(
      (handler) => {
        ready = handler;
        handler(request, response);
      },
      () => response.destroy(),
    );
    return true;
  };
}

interface Answerers {
  readonly proxy: GrpcProxyHost;
  readonly connect: ConnectHandler;
  readonly pages: Pages;
}

function answerFrom(listener: Listener, { proxy, connect, pages }: Answerers): void {
  listener.http1.on("request", (request, response) => {
    if (!connect(request, response)) answerPage(pages, request, response);
  });
  listener.http2.on("stream", (stream: ServerHttp2Stream, headers, _flags, rawHeaders) => {
    stream.on("error", () => stream.destroy());
    const route = isGrpc(headers) ? routes.get(headers[":path"] ?? "") : undefined;
    if (route !== undefined) {
      void proxyGrpc(proxy, route, stream, headers);
      return;
    }
    const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
    const response = new Http2ServerResponse(stream);
    if (connect(request, response)) return;
    if (isGrpc(headers)) refuseUnknown(stream, headers);
    else answerPage(pages, request, response);
  });
}

/** gRPC as it passes through; gRPC-Web and gRPC with JSON are translated instead. */
function isGrpc(headers: IncomingHttpHeaders): boolean {
  const type = headers["content-type"]?.split(";", 1)[0];
  return type === "application/grpc" || type === "application/grpc+proto";
}

function refuseUnknown(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc+proto",
      // UNIMPLEMENTED: clients tell by it that a server lacks a method.
      "grpc-status": "12",
      "grpc-message": encodeURIComponent(unknownPath(headers[":path"] ?? "")),
    },
    { endStream: true },
  );
  stream.resume();
}

function endStreams(proxy: GrpcProxyHost, fault: Fault): void {
  for (const call of proxy.open) if (call.streamsResponses) call.cut(fault);
}

function mapValues(
  addresses: GatewayConfig["upstreams"],
  make: (address: string) => Upstream,
): Record<UpstreamName, Upstream> {
  return {
    auth: make(addresses.auth),
    scheduler: make(addresses.scheduler),
    billing: make(addresses.billing),
    monitor: make(addresses.monitor),
    storage: make(addresses.storage),
  };
}

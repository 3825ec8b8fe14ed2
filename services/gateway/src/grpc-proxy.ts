import { constants } from "node:http2";
import type {
  ClientHttp2Stream,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
} from "node:http2";
import { Fault } from "@fastgpu/domain/fault";
import { resetRequest } from "@fastgpu/rpc/reset";
import { faultToStatus, statusNameOf } from "@fastgpu/rpc/status";
import { admit, openPassage } from "./admission.ts";
import type { AdmissionHost, Arrival, Passage } from "./admission.ts";
import type { UpstreamName } from "./config.ts";
import type { Route } from "./routes.ts";
import type { Upstream } from "./upstream.ts";

/** What the gRPC side of the gateway needs. */
export interface GrpcProxyHost extends AdmissionHost {
  readonly upstreams: Readonly<Record<UpstreamName, Upstream>>;
  readonly open: Set<ProxiedCall>;
}

/** A call in progress. */
export interface ProxiedCall {
  /** Whether it answers with a stream, which a drain ends at once. */
  readonly streamsResponses: boolean;
  /** Ends it with a fault. */
  cut(fault: Fault): void;
}

/** Headers that belong to one connection or that the gateway sets itself. */
const notPassedOn = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "te",
  "host",
  "authorization",
  "x-request-id",
  "traceparent",
]);

/**
 * Passes one gRPC call on, HTTP/2 to HTTP/2: headers are looked at, messages are not even parsed into frames, flow
 * control is the streams' own, and deadline, cancel and trailers go through as they are.
 */
export async function proxyGrpc(
  host: GrpcProxyHost,
  route: Route,
  down: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
): Promise<void> {
  const arrival = arrivalOf(headers, down);
  const passage = openPassage(host, arrival);
  down.on("error", () => down.destroy());
  try {
    const authorization = await admit(host, arrival);
    if (down.destroyed) {
      passage.end("CANCELLED");
      return;
    }
    pass({ host, route, down, headers, passage, authorization });
  } catch (error) {
    answerFault(down, Fault.from(error), passage);
  }
}

function arrivalOf(headers: IncomingHttpHeaders, down: ServerHttp2Stream): Arrival {
  return {
    method: (headers[":path"] ?? "/").slice(1),
    peer: down.session?.socket.remoteAddress ?? "unknown",
    header: (name) => {
      const value = headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
  };
}

interface PassOptions {
  readonly host: GrpcProxyHost;
  readonly route: Route;
  readonly down: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly passage: Passage;
  readonly authorization: string | undefined;
}

function pass(options: PassOptions): void {
  const { host, route, down, passage } = options;
  const up = host.upstreams[route.upstream].request(upstreamHeaders(options));
  let trailers: OutgoingHttpHeaders | undefined;
  const kind = route.method.methodKind;
  const call: ProxiedCall = {
    streamsResponses: kind === "server_streaming" || kind === "bidi_streaming",
    cut(fault) {
      up.unpipe(down);
      answerFault(down, fault, passage);
      resetRequest(up);
    },
  };
  host.open.add(call);
  up.on("response", (response, flags) => {
    if (down.destroyed || down.closed || down.headersSent) return;
    const answer = { ...withoutConnection(response), "x-request-id": passage.requestId };
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) {
      passage.end(statusNameOf(response["grpc-status"]));
      down.respond(answer, { endStream: true });
    } else {
      down.respond(answer, { waitForTrailers: true });
      up.pipe(down);
    }
  });
  up.on("trailers", (received) => {
    trailers = received;
  });
  down.on("wantTrailers", () => {
    passage.end(trailers === undefined ? "UNAVAILABLE" : statusNameOf(trailers["grpc-status"]));
    down.sendTrailers(trailers ?? faultTrailers(lostUpstream(), passage.requestId));
  });
  up.on("error", () => undefined);
  up.once("close", () => {
    host.open.delete(call);
    // Nothing came, or the end is missing: the service went away under the call.
    if (down.destroyed || down.writableEnded) return;
    up.unpipe(down);
    answerFault(down, lostUpstream(), passage);
  });
  down.once("close", () => {
    passage.end("CANCELLED");
    resetLater(up);
  });
  // A request that its caller resets reads like one that ends: passed on as an end it would look complete.
  down.once("end", () => {
    if (down.closed) resetLater(up);
    else up.end();
  });
  down.pipe(up, { end: false });
}

/** A turn later: HTTP/2 in Node loses a reset that is sent in the same turn as the request. */
function resetLater(up: ClientHttp2Stream): void {
  setImmediate(() => resetRequest(up));
}

function upstreamHeaders({ headers, passage, authorization }: PassOptions): OutgoingHttpHeaders {
  const passed: OutgoingHttpHeaders = {
    ":method": "POST",
    ":path": headers[":path"] ?? "/",
    te: "trailers",
    "x-request-id": passage.requestId,
    traceparent: passage.traceparent,
    ...(authorization === undefined ? {} : { authorization }),
  };
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith(":") && !notPassedOn.has(name)) passed[name] = value;
  }
  return passed;
}

function withoutConnection(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !notPassedOn.has(name)));
}

/** What a caller is told when the service cannot be reached or went away under the call. */
export function lostUpstream(): Fault {
  return new Fault("UNAVAILABLE", "the service behind the gateway is not reachable", {
    retryAfterMs: 1_000,
    hint: "try again; the outcome of a write is unknown, repeat it with the same request id",
  });
}

/** Ends a gRPC stream with a fault: before the answer began as a response without body, later as trailers. */
function answerFault(down: ServerHttp2Stream, fault: Fault, passage: Passage): void {
  passage.end(fault.code);
  if (down.destroyed || down.closed || down.writableEnded) return;
  const trailers = faultTrailers(fault, passage.requestId);
  if (down.headersSent) {
    down.removeAllListeners("wantTrailers");
    down.once("wantTrailers", () => down.sendTrailers(trailers));
    down.end();
  } else {
    down.respond(
      {
        ":status": 200,
        "content-type": "application/grpc+proto",
        "x-request-id": passage.requestId,
        ...trailers,
      },
      { endStream: true },
    );
  }
  // What the caller still sends is of no use to anybody.
  down.resume();
}

/** A fault as gRPC trailers. */
function faultTrailers(fault: Fault, requestId: string): OutgoingHttpHeaders {
  const wire = faultToStatus(fault, requestId);
  return {
    "grpc-status": String(wire.code),
    "grpc-message": encodeURIComponent(wire.message).replaceAll("%20", " "),
    "grpc-status-details-bin": Buffer.from(wire.details).toString("base64").replace(/=+$/, ""),
  };
}

import { randomUUID } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";
import type { Authenticator } from "@fastgpu/rpc/authenticator";
import { contextFromTraceparent, formatTraceparent } from "@fastgpu/telemetry/trace-context";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { KeyExchange } from "./exchange.ts";
import type { RateLimit } from "./rate-limit.ts";

/** What admission looks at of a call, whatever protocol it came by. */
export interface Arrival {
  /** `package.Service/Method`. */
  readonly method: string;
  /** The caller's address. */
  readonly peer: string;
  /** A header in lower case. */
  header(name: string): string | undefined;
}

/** What every admission needs. */
export interface AdmissionHost {
  readonly exchange: KeyExchange;
  /** Verifies tokens that callers exchanged themselves. */
  readonly authenticator: Authenticator;
  readonly rateLimit: RateLimit;
  readonly tracing: Tracing;
}

/** A call on its way through: its identity and its span. */
export interface Passage {
  readonly requestId: string;
  readonly traceparent: string;
  /** Ends the span. `code` is a gRPC status name such as `OK` or `NOT_FOUND`. */
  end(code: string): void;
}

const requestIdPattern = /^[\w.:-]{1,128}$/;

/** Gives a call its request id and its root span; a caller's own trace is continued. */
export function openPassage(host: AdmissionHost, arrival: Arrival): Passage {
  const sentId = arrival.header("x-request-id");
  const requestId = sentId !== undefined && requestIdPattern.test(sentId) ? sentId : randomUUID();
  const span = host.tracing.tracer.startSpan(
    arrival.method,
    {
      kind: SpanKind.SERVER,
      attributes: {
        "rpc.system.name": "grpc",
        "rpc.method": arrival.method,
        "fastgpu.request_id": requestId,
      },
    },
    contextFromTraceparent(arrival.header("traceparent")),
  );
  let ended = false;
  return {
    requestId,
    traceparent: formatTraceparent(span.spanContext()),
    end(code) {
      if (ended) return;
      ended = true;
      span.setAttribute("rpc.response.status_code", code);
      if (code !== "OK") span.setStatus({ code: SpanStatusCode.ERROR, message: code });
      span.end();
    },
  };
}

/**
 * Identifies the caller and takes the call from its tenant's allowance. Answers the `authorization` header to pass on:
 * an API key becomes a token, a token is verified and passed as it is, none stays none (the service decides whether the
 * method is public).
 */
export async function admit(host: AdmissionHost, arrival: Arrival): Promise<string | undefined> {
  const authorization = arrival.header("authorization");
  if (authorization === undefined) {
    host.rateLimit(`peer ${arrival.peer}`);
    return undefined;
  }
  const apiKey = /^bearer +(fgpu_\S+)$/i.exec(authorization)?.[1];
  if (apiKey === undefined) {
    const principal = await host.authenticator.authenticate(authorization);
    host.rateLimit(principal.org ?? principal.id);
    return authorization;
  }
  const exchanged = await exchangeOf(host, arrival, apiKey);
  host.rateLimit(exchanged.organization.split("/")[1] ?? exchanged.principal);
  return `Bearer ${exchanged.accessToken}`;
}

async function exchangeOf(host: AdmissionHost, arrival: Arrival, apiKey: string) {
  try {
    return await host.exchange(apiKey);
  } catch (error) {
    // Guessing keys is paid for by whoever guesses.
    host.rateLimit(`peer ${arrival.peer}`);
    const fault = Fault.from(error);
    if (fault.code !== "INVALID_ARGUMENT") throw fault;
    throw new Fault("UNAUTHENTICATED", "the API key is malformed", {
      hint: "keys look like fgpu_<env>_<id>_<secret>_<crc>; copy the whole key",
      cause: fault,
    });
  }
}

import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "@fastgpu/contracts/grpc/health/v1/health_pb";
import type { HealthCheckRequest } from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aborted } from "@fastgpu/lifecycle/signals";
import { service } from "./handlers.ts";
import type { BoundService } from "./handlers.ts";

/** The health of a server (grpc.health.v1), answered to anybody. */
export interface ServerHealth {
  readonly bound: BoundService;
  /** The same, for servers that are not ours. */
  readonly handlers: HealthHandlers;
  /** From now on NOT_SERVING; watchers are told. */
  readonly drain: () => void;
}

/** The methods of health; of the call they need the signal only. */
export interface HealthHandlers {
  check(request: HealthCheckRequest): Promise<{ status: Serving }>;
  list(): Promise<{ statuses: Record<string, { status: Serving }> }>;
  watch(
    request: HealthCheckRequest,
    call: { readonly signal: AbortSignal },
  ): AsyncIterable<{ status: Serving }>;
}

/** Health for a server with these services: each is SERVING until the drain begins. */
export function createHealth(serviceNames: readonly string[]): ServerHealth {
  const known = new Set(["", ...serviceNames]);
  const drained = new AbortController();
  const status = () => (drained.signal.aborted ? Serving.NOT_SERVING : Serving.SERVING);
  const handlers: HealthHandlers = {
    async check(request) {
      if (!known.has(request.service)) throw Fault.notFound(`service ${request.service}`);
      return { status: status() };
    },
    async list() {
      return {
        statuses: Object.fromEntries([...known].map((name) => [name, { status: status() }])),
      };
    },
    async *watch(request, call) {
      if (!known.has(request.service)) {
        yield { status: Serving.SERVICE_UNKNOWN };
      } else {
        yield { status: status() };
        await aborted(AbortSignal.any([drained.signal, call.signal]));
        if (drained.signal.aborted) yield { status: Serving.NOT_SERVING };
      }
      await aborted(call.signal);
    },
  };
  return { bound: service(Health, handlers), handlers, drain: () => drained.abort() };
}

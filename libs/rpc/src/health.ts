import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aborted } from "@fastgpu/lifecycle/signals";
import { service } from "./handlers.ts";
import type { BoundService } from "./handlers.ts";

/** The health of a server (grpc.health.v1), answered to anybody. */
export interface ServerHealth {
  readonly bound: BoundService;
  /** From now on NOT_SERVING; watchers are told. */
  drain(): void;
}

/** Health for a server with these services: each is SERVING until the drain begins. */
export function createHealth(serviceNames: readonly string[]): ServerHealth {
  const known = new Set(["", ...serviceNames]);
  const drained = new AbortController();
  const status = () => (drained.signal.aborted ? Serving.NOT_SERVING : Serving.SERVING);
  const bound = service(Health, {
    async check(request) {
      if (!known.has(request.service)) throw Fault.notFound(`service ${request.service}`);
      return { status: status() };
    },
    async list() {
      return {
        statuses: Object.fromEntries([...known].map((name) => [name, { status: status() }])),
      };
    },
    async *watch(request, context) {
      if (!known.has(request.service)) {
        yield { status: Serving.SERVICE_UNKNOWN };
      } else {
        yield { status: status() };
        await aborted(AbortSignal.any([drained.signal, context.signal]));
        if (drained.signal.aborted) yield { status: Serving.NOT_SERVING };
      }
      await aborted(context.signal);
    },
  });
  return { bound, drain: () => drained.abort() };
}

import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { MonitorService } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import type { Bus } from "@fastgpu/events/bus";
import type { Clock } from "@fastgpu/domain/clock";
import type { Logger } from "@fastgpu/telemetry/log";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { startLoop } from "@fastgpu/lifecycle/loop";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { service } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { createServiceIdentity } from "@fastgpu/rpc/tokens";
import type { JSONWebKeySet } from "jose";
import { listGpuHealth } from "./api/list-gpu-health.ts";
import { queryMetrics } from "./api/query-metrics.ts";
import type { MonitorConfig } from "./config.ts";
import { createExposition } from "./metrics/exposition.ts";
import { startMetricsServer } from "./metrics/metrics-server.ts";
import { addSchedulerMetrics } from "./metrics/scheduler-metrics.ts";
import { openNodeNames } from "./names/node-names.ts";
import { createFleet } from "./samples/fleet.ts";
import type { Fleet } from "./samples/fleet.ts";
import { readSample } from "./samples/sample.ts";

/** What QueryMetrics can look back on. */
const HISTORY_MS = 900_000;

/** Where a started monitor is reached; for tests with port 0. */
export interface MonitorAddresses {
  readonly address: string;
  readonly metricsPort: number;
}

/**
 * Runs monitor until the context stops it. It has no database: the newest figures and 15 minutes of history are in
 * memory and come again from the workers within one interval. Nothing has to be there at the start.
 */
export async function main(
  config: MonitorConfig,
  context: ServiceContext & { readonly serves?: (at: MonitorAddresses) => void },
): Promise<void> {
  const { log, clock, stop, tracing } = context;
  const { staleMs, maxTemperatureCelsius, forgetMs, maxGpus, insecure } = config;
  const fleet = createFleet({
    ...{ clock, forgetMs, maxGpus },
    ...{ keepMs: HISTORY_MS, stepMs: config.historyStepMs },
  });
  const monitor = { fleet, clock, limits: { staleMs, maxTemperatureCelsius } };
  await using bus = openNatsBus({
    ...{ url: config.natsUrl, prefix: config.natsPrefix, name: "monitor", log },
  });
  const refused = new Map<string, number>();
  await using _samples = listenToWorkers({ bus, fleet, clock, log, refused });
  await using _forgetting = startLoop({
    name: "monitor forgets",
    ...{ stop, log, idleMs: 60_000 },
    step: () => {
      fleet.forget();
      return Promise.resolve("idle");
    },
  });

  const { privateKeyPem } = config;
  const identity = createServiceIdentity({ name: "monitor", privateKeyPem, clock });
  await using channels = new AsyncDisposableStack();
  const dial = (audience: string, address: string) => {
    const channel = createChannel({ address, tracing, token: () => identity.token({ audience }) });
    return channels.adopt(channel, (open) => open.close());
  };
  const scheduler = dial("scheduler", config.scheduler);
  await using names = openNodeNames({ scheduler, log, stop, everyMs: 60_000 });
  const nameOf = names.nameOf;
  const exposition = createExposition({ ...monitor, refused, nameOf });
  addSchedulerMetrics(exposition, { scheduler, clock });
  await using metrics = await startMetricsServer({
    ...{ ...config.metrics, insecure, log },
    metrics: exposition,
  });
  const tokens = createClient(TokenService, dial("auth", config.auth));
  const auth = createAuthenticator({
    ...{ service: "monitor", clock, serviceKeys: config.serviceKeys },
    loadKeys: async () =>
      JSON.parse((await tokens.getJwks({}, patience)).jwksJson) as JSONWebKeySet,
    // No request names a project: figures are the platform's.
    resolveProject: () => undefined,
  });
  await using _revocations = bus.listen(signals.keyRevoked, "*", ({ apiKey }) =>
    auth.revoke(apiKey),
  );
  const server = await startServer({
    listen: config.listen,
    services: [
      service(MonitorService, {
        listGpuHealth: listGpuHealth(monitor),
        queryMetrics: queryMetrics(monitor),
      }),
    ],
    auth,
    ...{ clock, log, tracing, stop, insecure },
  });
  log.info({ address: server.address, metricsPort: metrics.port }, "monitor serves");
  context.serves?.({ address: server.address, metricsPort: metrics.port });
  context.ready();
  await server.closed;
}

/** A caller whose token cannot be verified should learn soon that auth is away. */
const patience = { timeoutMs: 5_000, waitForReady: false } as const;

/** Takes what workers say, and counts what is not taken by its reason, which is logged once. */
function listenToWorkers(of: {
  readonly bus: Bus;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly log: Logger;
  readonly refused: Map<string, number>;
}): AsyncDisposable {
  const { fleet, log, refused } = of;
  const refuse = (reason: string, node: string): void => {
    if (!refused.has(reason)) log.warn({ reason, node }, "a worker's sample was not taken");
    refused.set(reason, (refused.get(reason) ?? 0) + 1);
  };
  return of.bus.listen(signals.nodeSample, "*", (message, key) => {
    const reading = readSample(key, message, of.clock.nowMs());
    if (typeof reading === "string") refuse(reading, key);
    else if (!fleet.take(reading)) refuse("no_room", key);
  });
}

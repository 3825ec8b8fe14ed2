import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import {
  HealthState,
  MonitorService,
} from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import type { NodeSampleSchema } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { NodeId } from "@fastgpu/domain/ids";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { service } from "@fastgpu/rpc/handlers";
import type { BoundService } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { generateServiceKeys, loadSigningKey, signAccessToken } from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { manualClock } from "@fastgpu/testkit/clock";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory, testNatsServer } from "@fastgpu/testkit/servers";
import { eventually } from "@fastgpu/testkit/signals";
import { expect, test } from "vitest";
import { monitorConfig } from "../src/config.ts";
import { main } from "../src/main.ts";
import type { MonitorAddresses } from "../src/main.ts";

/** Monitor's own `main` over real NATS; calls to auth and scheduler are answered by the test. */
async function startMonitor(displayNames: ReadonlyMap<NodeId, string> = new Map()) {
  await using starting = new AsyncDisposableStack();
  const directory = await scratchDirectory();
  const clock = manualClock();
  const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const own = generateServiceKeys();
  const nats = { url: await testNatsServer(), prefix: `t${randomBytes(6).toString("hex")}` };
  const absent = (): never => {
    throw new Error("not asked by monitor");
  };
  const peer = async (name: string, services: readonly BoundService[]): Promise<string> => {
    const server = await startServer({
      ...{ listen: { path: join(directory, `${name}.sock`) }, services, clock, log: quiet },
      tracing: passiveTracing,
      auth: createAuthenticator({
        ...{ service: name, clock, serviceKeys: { monitor: own.publicKeyPem } },
        ...{ loadKeys: () => Promise.resolve({ keys: [] }), resolveProject: () => undefined },
      }),
    });
    starting.defer(() => server.close(0));
    return server.address;
  };
  const status = { away: false };
  const jwksJson = JSON.stringify({ keys: [key.jwk] });
  const auth = await peer("auth", [
    service(TokenService, { getJwks: () => Promise.resolve({ jwksJson }), exchangeToken: absent }),
  ]);
  const nodes = [...displayNames].map(([node, displayName]) => ({
    name: `nodes/${node}`,
    displayName,
  }));
  const scheduler = await peer("scheduler", [
    service(NodeService, {
      ...{ getNode: absent, listGpus: absent },
      listNodes: () => Promise.resolve({ nodes }),
    }),
    service(StatusService, {
      getSchedulerStatus() {
        if (status.away) throw new Fault("UNAVAILABLE", "nobody has led yet");
        return Promise.resolve({
          ...{ leader: "one", leaderEpoch: 3n, waitingTasks: 7n, liveAttempts: 2n, plans: 40n },
          ...{ nodes: 5n, readyNodes: 4n, leases: 11n, leasesRejected: 1n, preemptions: 6n },
          updateTime: timestampFromMs(clock.nowMs() - 4_000),
          planDurationP50: { nanos: 1_500_000 },
          planDurationP99: { seconds: 1n, nanos: 250_000_000 },
          ...{
            runsExpected: 30n,
            runsUnexpected: 5n,
            runTimeMedianFactorOff: 1.5,
            runTimeP90Part: 0.875,
          },
        });
      },
    }),
  ]);
  const config = monitorConfig.parse({
    ...{ listen: { host: "127.0.0.1", port: 0 }, metrics: { port: 0 }, auth, scheduler },
    ...{ natsUrl: nats.url, natsPrefix: nats.prefix, privateKeyPem: own.privateKeyPem },
  });
  const controller = new AbortController();
  const serving = Promise.withResolvers<MonitorAddresses>();
  const running = main(config, {
    ...{ stop: controller.signal, log: quiet, clock, tracing: passiveTracing },
    ...{ ready: () => undefined, serves: serving.resolve },
  });
  starting.defer(async () => {
    controller.abort();
    await running;
  });
  const at = await Promise.race([serving.promise, running]);
  if (at === undefined) throw new Error("monitor ended");
  const worker = starting.use(openNatsBus({ ...nats, name: "worker", log: quiet }));
  await worker.connected();
  const claims = { sub: "key-1", org: anId("org"), role: "project_viewer" } as const;
  const token = () => signAccessToken({ key, claims, nowMs: clock.nowMs() });
  const channel = createChannel({ address: at.address, token });
  starting.defer(() => channel.close());
  const stack = starting.move();
  return {
    ...{ status, clock, worker, client: createClient(MonitorService, channel) },
    /** The lines of /metrics that are no comments. */
    async scrape(): Promise<string[]> {
      const response = await fetch(`http://127.0.0.1:${at.metricsPort}/metrics`);
      expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
      return (await response.text()).split("\n").filter((line) => line !== "" && line[0] !== "#");
    },
    metricsUrl: `http://127.0.0.1:${at.metricsPort}`,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

type Monitor = Awaited<ReturnType<typeof startMonitor>>;

const aNode = { node: anId("node"), gpus: [anId("gpu"), anId("gpu")] };

function aSample(
  monitor: Monitor,
  utilizationPercent: number,
): MessageInitShape<typeof NodeSampleSchema> {
  const time = timestampFromMs(monitor.clock.nowMs());
  return {
    ...{ node: aNode.node, time, cpuPercent: 12.5, memoryUsedMib: 2_048n },
    gpus: aNode.gpus.map((gpu, index) => ({
      ...{ gpu, index, model: "Simulated H100" },
      sample: {
        ...{ time, utilizationPercent, memoryUsedMib: 1_024n, memoryFreeMib: 80_000n },
        ...{ temperatureCelsius: 41, xid: 0, simulated: true },
      },
    })),
  };
}

/** Sends a sample again and again, as a worker does, until monitor shows it: core NATS loses what nobody hears. */
async function report(monitor: Monitor, utilizationPercent: number): Promise<void> {
  await eventually("the sample arrived", async () => {
    monitor.worker.send(signals.nodeSample, aNode.node, aSample(monitor, utilizationPercent));
    const { gpus } = await monitor.client.listGpuHealth({});
    return gpus[0]?.sample?.utilizationPercent === utilizationPercent;
  });
}

test("samples become health and history, and silence becomes unknown", async () => {
  await using monitor = await startMonitor();
  expect((await monitor.client.listGpuHealth({})).gpus).toEqual([]);
  for (let i = 1; i <= 5; i += 1) {
    monitor.clock.advance(5_000);
    await report(monitor, i);
  }
  const parent = `nodes/${aNode.node}`;
  const { gpus } = await monitor.client.listGpuHealth({ parent });
  expect(gpus).toHaveLength(2);
  expect(gpus[0]).toMatchObject({
    name: `${parent}/gpus/${aNode.gpus[0]}`,
    state: HealthState.HEALTHY,
    sample: {
      utilizationPercent: 5,
      memoryUsedMib: 1_024n,
      temperatureCelsius: 41,
      simulated: true,
    },
  });
  expect(gpus[0]?.sample?.powerWatts).toBeUndefined();
  const name = gpus[1]?.name ?? "";
  const query = async (windowSeconds: number) =>
    (await monitor.client.queryMetrics({ name, windowSeconds })).samples.map(
      (sample) => sample.utilizationPercent,
    );
  expect(await query(0)).toEqual([1, 2, 3, 4, 5]);
  expect(await query(10)).toEqual([3, 4, 5]);

  monitor.clock.advance(16_000);
  const silent = await monitor.client.listGpuHealth({ parent: "nodes/-" });
  expect(silent.gpus.map((gpu) => gpu.state)).toEqual([HealthState.UNKNOWN, HealthState.UNKNOWN]);
  await report(monitor, 6);
  const back = await monitor.client.listGpuHealth({});
  expect(back.gpus.map((gpu) => gpu.state)).toEqual([HealthState.HEALTHY, HealthState.HEALTHY]);
});

test("a failed query is unhealthy, and one GPU's failure is not its neighbour's", async () => {
  await using monitor = await startMonitor();
  await report(monitor, 1);
  monitor.clock.advance(5_000);
  const sample = aSample(monitor, 2);
  const [failed, fine] = sample.gpus ?? [];
  const { index, gpu, model } = failed ?? {};
  const broken = { ...sample, gpus: [{ index, gpu, model }, fine] } as typeof sample;
  await eventually("the failure shows", async () => {
    monitor.worker.send(signals.nodeSample, aNode.node, broken);
    const { gpus } = await monitor.client.listGpuHealth({});
    if (gpus[1]?.sample?.utilizationPercent !== 2) return false;
    expect(gpus.map((one) => one.state)).toEqual([HealthState.UNHEALTHY, HealthState.HEALTHY]);
    expect(gpus[0]?.message).toMatch(/does not answer/);
    return true;
  });
});

test("Prometheus reads DCGM's names with the node's name, and nothing stale", async () => {
  await using monitor = await startMonitor(new Map([[aNode.node, "rack-7"]]));
  await report(monitor, 77);
  const [line, lines] = await eventually("the node's name is known", async () => {
    const all = await monitor.scrape();
    const util = all.find((text) => text.startsWith("DCGM_FI_DEV_GPU_UTIL"));
    return util?.includes("rack-7") === true ? ([util, all] as const) : undefined;
  });
  expect(line).toBe(
    `DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="${aNode.gpus[0]}",device="",modelName="Simulated H100",Hostname="rack-7",node="${aNode.node}",simulated="true"} 77`,
  );
  const nameOf = (text: string) => text.split("{")[0];
  const ofFleet = lines.filter((text) => !text.startsWith("fastgpu_scheduler"));
  expect(new Set(ofFleet.map(nameOf))).toEqual(
    new Set([
      ...["GPU_TEMP", "GPU_UTIL", "FB_USED", "FB_FREE", "XID_ERRORS"].map(
        (n) => `DCGM_FI_DEV_${n}`,
      ),
      ...["fastgpu_gpu_health", "fastgpu_node_cpu_percent", "fastgpu_node_memory_used_bytes"],
      "fastgpu_node_silence_seconds",
    ]),
  );
  const node = `{Hostname="rack-7",node="${aNode.node}"}`;
  expect(lines).toContain(`fastgpu_node_memory_used_bytes${node} 2147483648`);

  monitor.clock.advance(20_000);
  const stale = await monitor.scrape();
  expect(stale.filter((text) => text.startsWith("DCGM"))).toEqual([]);
  expect(stale).toContain(`fastgpu_node_silence_seconds${node} 20`);
  const unknown = stale.filter((text) => text.includes('state="unknown"'));
  expect(unknown.map((text) => text.at(-1))).toEqual(["1", "1"]);
  expect((await fetch(`${monitor.metricsUrl}/`)).status).toBe(404);
  expect((await fetch(`${monitor.metricsUrl}/metrics`, { method: "POST" })).status).toBe(405);
});

test("samples of a foreign node, malformed ones and wrong requests change nothing", async () => {
  await using monitor = await startMonitor();
  await report(monitor, 1);
  monitor.worker.send(signals.nodeSample, anId("node"), aSample(monitor, 99));
  monitor.worker.send(signals.nodeSample, "node-1", { ...aSample(monitor, 99), node: "node-1" });
  const refused = await eventually("both were refused", async () => {
    const lines = await monitor.scrape();
    const found = lines.filter((line) => line.startsWith("fastgpu_monitor_refused_samples"));
    return found.length === 2 ? found : undefined;
  });
  expect(refused).toContain('fastgpu_monitor_refused_samples{reason="wrong_node"} 1');
  expect((await monitor.client.listGpuHealth({})).gpus).toHaveLength(2);
  const { client } = monitor;
  const gpu = aNode.gpus[0] ?? "";
  for (const [call, reason] of [
    [() => client.listGpuHealth({ parent: "projects/x" }), "INVALID_FIELD"],
    [() => client.queryMetrics({ name: `nodes/${anId("node")}/gpus/${gpu}` }), "NOT_FOUND"],
    [() => client.queryMetrics({ name: "x" }), "INVALID_FIELD"],
    [
      () => client.queryMetrics({ name: `nodes/${aNode.node}/gpus/${gpu}`, windowSeconds: 901 }),
      "INVALID_FIELD",
    ],
  ] as const) {
    await expect(call()).rejects.toMatchObject({ reason });
  }
});

test("the scheduler's own figures are there while it answers, and none are made up while it does not", async () => {
  await using monitor = await startMonitor();
  const ofScheduler = async () =>
    (await monitor.scrape()).filter((line) => line.startsWith("fastgpu_scheduler"));
  const lines = [
    "fastgpu_scheduler_up 1",
    "fastgpu_scheduler_status_age_seconds 4",
    "fastgpu_scheduler_leader_epoch 3",
    "fastgpu_scheduler_waiting_tasks 7",
    "fastgpu_scheduler_live_attempts 2",
    'fastgpu_scheduler_nodes{takes_work="true"} 4',
    'fastgpu_scheduler_nodes{takes_work="false"} 1',
    'fastgpu_scheduler_plan_duration_seconds{quantile="0.5"} 0.0015',
    'fastgpu_scheduler_plan_duration_seconds{quantile="0.99"} 1.25',
    "fastgpu_scheduler_rebuild_seconds 0",
    'fastgpu_scheduler_run_times_expected{expected="true"} 30',
    'fastgpu_scheduler_run_times_expected{expected="false"} 5',
    "fastgpu_scheduler_run_time_factor_off 1.5",
    "fastgpu_scheduler_run_time_p90_ratio 0.875",
    "fastgpu_scheduler_plans_total 40",
    'fastgpu_scheduler_placements_total{result="leased"} 11',
    'fastgpu_scheduler_placements_total{result="rejected"} 1',
    'fastgpu_scheduler_placements_total{result="unfunded"} 0',
    'fastgpu_scheduler_preemptions_total{result="stopped"} 6',
    'fastgpu_scheduler_preemptions_total{result="rejected"} 0',
  ];
  expect(await ofScheduler()).toEqual(lines);
  monitor.status.away = true;
  await eventually("the last answer is too old", async () =>
    (await ofScheduler()).length === 1 ? true : undefined,
  );
  expect(await ofScheduler()).toEqual(["fastgpu_scheduler_up 0"]);
  monitor.status.away = false;
  await eventually("it answers again", async () =>
    (await ofScheduler()).length === lines.length ? true : undefined,
  );
  expect(await ofScheduler()).toEqual(lines);
});

import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import {
  OrganizationService,
  ProjectService,
  TokenService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Role } from "@fastgpu/domain/roles";
import { answerListEvents } from "@fastgpu/events/event-log";
import type { Bus } from "@fastgpu/events/bus";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { openPool } from "@fastgpu/postgres/pool";
import type { Pool } from "@fastgpu/postgres/pool";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Client } from "@fastgpu/rpc/client";
import { service } from "@fastgpu/rpc/handlers";
import type { BoundService, Handlers } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import {
  createServiceIdentity,
  generateServiceKeys,
  loadSigningKey,
  signAccessToken,
} from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { manualClock } from "@fastgpu/testkit/clock";
import type { ManualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import type { TestDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory, testNatsServer } from "@fastgpu/testkit/servers";
import { billingConfig } from "../src/config.ts";
import { main } from "../src/main.ts";

/** Billing's own `main`, with the calls and event logs of auth and scheduler played by the test over real gRPC. */
export interface RunningBilling extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly clock: ManualClock;
  /** Projects that auth knows, with their organisations. */
  readonly projects: Map<ProjectId, OrgId>;
  /** Pools of the event logs of auth and scheduler. */
  readonly logs: { readonly auth: Pool; readonly scheduler: Pool };
  /** Gives new events their seq and publishes them. */
  relay(producer: "auth" | "scheduler"): void;
  /** Takes auth away. */
  stopAuth(): Promise<void>;
  /** Ends billing and starts it again on the same database. */
  restart(): Promise<void>;
  /** A client with the token of somebody in an organisation. */
  as<S extends DescService>(service: S, role: Role, org?: OrgId, project?: ProjectId): Client<S>;
  /** A client with the scheduler's own token. */
  asScheduler<S extends DescService>(service: S): Client<S>;
}

/** Starts it; ends with `await using`. */
export async function startBilling(): Promise<RunningBilling> {
  await using starting = new AsyncDisposableStack();
  const directory = await scratchDirectory();
  const migrations = { auth: directory, scheduler: directory };
  const services = ["billing", "auth", "scheduler"];
  const database = starting.use(await testDatabase({ services, migrations }));
  const clock = manualClock();
  const keys = { billing: generateServiceKeys(), scheduler: generateServiceKeys() };
  const signing = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const projects = new Map<ProjectId, OrgId>();
  const nats = { url: await testNatsServer(), prefix: `t${randomBytes(6).toString("hex")}` };
  const stop = new AbortController();
  const bus = starting.use(openNatsBus({ ...nats, name: "peers", log: quiet }));

  const peer = (name: "auth" | "scheduler", more: readonly BoundService[]) =>
    startPeer(starting, {
      ...{ name, more, directory, clock, bus, stop: stop.signal },
      url: database.urls[name]?.core ?? "",
      billingKey: keys.billing.publicKeyPem,
      projects,
    });
  const jwksJson = JSON.stringify({ keys: [signing.jwk] });
  const auth = await peer("auth", authPlayed(projects, jwksJson));
  const scheduler = await peer("scheduler", []);

  const path = join(directory, "billing.sock");
  const urls = database.urls["billing"];
  const config = billingConfig.parse({
    listen: { path },
    database: { api: urls?.api, core: urls?.core },
    natsUrl: nats.url,
    natsPrefix: nats.prefix,
    masterKeyFile: join(directory, "keys", "master.key"),
    serviceKeys: { scheduler: keys.scheduler.publicKeyPem },
    privateKeyPem: keys.billing.privateKeyPem,
    auth: auth.server.address,
    producers: { auth: auth.server.address, scheduler: scheduler.server.address },
    fillEveryMs: 200,
  });
  let run = await startMain(config, clock);
  starting.defer(() => run.end());
  const stack = starting.move();
  const clientOf = <S extends DescService>(to: S, token: () => Promise<string>): Client<S> => {
    const channel = stack.adopt(createChannel({ address: `unix:${path}`, token }), (open) => {
      open.close();
    });
    return createClient(to, channel);
  };
  return {
    ...{ database, clock, projects },
    logs: { auth: auth.core, scheduler: scheduler.core },
    relay: (producer) => (producer === "auth" ? auth : scheduler).relay.wake(),
    stopAuth: () => auth.server.close(0),
    async restart() {
      await run.end();
      run = await startMain(config, clock);
    },
    as: (to, role, org, project) =>
      clientOf(to, () => {
        const claims = {
          sub: `key-${randomUUID()}`,
          role,
          ...(org && { org }),
          ...(project && { project }),
        };
        return signAccessToken({ key: signing, claims, nowMs: clock.nowMs() });
      }),
    asScheduler(to) {
      const { privateKeyPem } = keys.scheduler;
      const identity = createServiceIdentity({ name: "scheduler", privateKeyPem, clock });
      return clientOf(to, () => identity.token({ audience: "billing" }));
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await stack.disposeAsync();
    },
  };
}

/** A service played by the test: its event log in the database, its relay, and its server. */
async function startPeer(
  stack: AsyncDisposableStack,
  of: {
    readonly name: "auth" | "scheduler";
    readonly more: readonly BoundService[];
    readonly directory: string;
    readonly clock: ManualClock;
    readonly bus: Bus;
    readonly stop: AbortSignal;
    readonly url: string;
    readonly billingKey: string;
    readonly projects: ReadonlyMap<ProjectId, OrgId>;
  },
) {
  const { name, clock, bus, stop } = of;
  const core = stack.use(openPool({ url: of.url, name, log: quiet, max: 2 }));
  const own = { core, producer: name, clock };
  const relay = stack.use(startBusRelay({ ...own, log: quiet, stop, bus }));
  const listEvents: Handlers<typeof EventLogService>["listEvents"] = (request) =>
    answerListEvents(own, request, "billing");
  const server = await startServer({
    listen: { path: join(of.directory, `${name}.sock`) },
    services: [service(EventLogService, { listEvents }), ...of.more],
    auth: createAuthenticator({
      ...{ service: name, clock, serviceKeys: { billing: of.billingKey } },
      loadKeys: () => Promise.resolve({ keys: [] }),
      resolveProject: (id) => of.projects.get(id as ProjectId),
    }),
    ...{ clock, log: quiet, tracing: passiveTracing },
  });
  stack.defer(() => server.close(0));
  return { core, relay, server };
}

async function startMain(config: Parameters<typeof main>[0], clock: ManualClock) {
  const controller = new AbortController();
  const ready = Promise.withResolvers<void>();
  const running = main(config, {
    stop: controller.signal,
    ready: ready.resolve,
    ...{ log: quiet, clock, tracing: passiveTracing },
  });
  await Promise.race([ready.promise, running]);
  return {
    async end() {
      controller.abort();
      await running;
    },
  };
}

/** What billing asks of auth. */
function authPlayed(projects: ReadonlyMap<ProjectId, OrgId>, jwksJson: string): BoundService[] {
  const absent = (): never => {
    throw new Error("not asked by billing");
  };
  return [
    service(TokenService, {
      getJwks: () => Promise.resolve({ jwksJson }),
      exchangeToken: absent,
    }),
    service(ProjectService, {
      ...{ createProject: absent, getProject: absent, listProjects: absent },
      resolveProject({ name }) {
        const org = projects.get(name.slice("projects/".length) as ProjectId);
        if (org === undefined) return Promise.reject(Fault.notFound(name));
        return Promise.resolve({ name, organization: `organizations/${org}` });
      },
    }),
    service(OrganizationService, {
      ...{ createOrganization: absent, listOrganizations: absent },
      getOrganization({ name }) {
        const known = [...projects.values()].some((org) => name === `organizations/${org}`);
        return known ? Promise.resolve({ name }) : Promise.reject(Fault.notFound(name));
      },
    }),
  ];
}

import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { startConsumer } from "@fastgpu/events/consumer";
import { fetchEvents } from "@fastgpu/events/event-log";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { aborted } from "@fastgpu/lifecycle/signals";
import { parseId } from "@fastgpu/domain/ids";
import type { EventPage } from "@fastgpu/postgres/outbox";
import { openDatabase } from "@fastgpu/postgres/database";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { cachedProjects } from "@fastgpu/rpc/projects";
import { startServer } from "@fastgpu/rpc/server";
import { createServiceIdentity } from "@fastgpu/rpc/tokens";
import type { JSONWebKeySet } from "jose";
import type { BillingConfig } from "./config.ts";
import { authDirectory } from "./directory.ts";
import { onOrganizationCreated } from "./on/organization-created.ts";
import { listenOf } from "./listen.ts";
import { consumeSchedulerEvents } from "./on/scheduler-events.ts";
import { openOrganizations } from "./organizations.ts";
import { openPriceBook } from "./price-book.ts";
import { billingServices } from "./serve.ts";

const nanosPerUsd = 1_000_000_000n;

/**
 * Runs billing until `context.stop`: the API, the relay of its own events and the consumers of others'. Nothing but its
 * database has to be there at the start: calls to auth and to the scheduler's log are made when needed, NATS is waited
 * for in the background.
 */
export async function main(config: BillingConfig, context: ServiceContext): Promise<void> {
  const { log, clock, stop, tracing } = context;
  const master = await openMasterKey(config.masterKeyFile);
  await using db = openDatabase({ service: "billing", urls: config.database, log });
  await using bus = openNatsBus({
    url: config.natsUrl,
    name: "billing",
    prefix: config.natsPrefix,
    log,
  });
  const identity = createServiceIdentity({
    name: "billing",
    privateKeyPem: config.privateKeyPem,
    clock,
  });
  const dial = (address: string, audience: string): Channel =>
    createChannel({
      address,
      tracing,
      token: ({ onBehalfOf }) => identity.token({ audience, onBehalfOf }),
    });
  using channels = closing([
    dial(config.auth, "auth"),
    dial(config.producers.scheduler, "scheduler"),
    dial(config.producers.auth, "auth"),
  ] as const);
  const [auth, schedulerLog, authLog] = channels.list;

  const prices = openPriceBook({ pool: db.core, clock });
  await prices.refresh(0);
  const directory = authDirectory(auth);
  const organizations = openOrganizations({
    pool: db.core,
    clock,
    log,
    directory,
    startingCredit: {
      firstNanos: BigInt(config.startingCreditUsd) * nanosPerUsd,
      othersNanos: BigInt(config.otherStartingCreditUsd) * nanosPerUsd,
    },
  });
  await using relay = startBusRelay({ producer: "billing", core: db.core, clock, log, stop, bus });
  const billing = {
    ...{ db, clock, log, prices, organizations, tracing },
    pageTokens: createPageTokens(master.derive("billing/page-tokens")),
    wakeRelay: () => relay.wake(),
  };
  const { fillEveryMs } = config;
  await using _auth = startConsumer({
    ...{ producer: "auth", consumer: "billing", core: db.core, log, stop, bus, fillEveryMs },
    fetch: eventsOf(authLog),
    handlers: [onOrganizationCreated(billing)],
  });
  await using _scheduler = consumeSchedulerEvents({
    ...{ billing, bus, stop, fillEveryMs },
    fetch: eventsOf(schedulerLog),
  });
  const tokens = createClient(TokenService, auth);
  const server = await startServer({
    listen: listenOf(config.listen),
    services: billingServices(billing),
    auth: createAuthenticator({
      service: "billing",
      clock,
      serviceKeys: config.serviceKeys,
      loadKeys: async () => JSON.parse((await tokens.getJwks({})).jwksJson) as JSONWebKeySet,
      resolveProject: cachedProjects({
        clock,
        load: async (text) => {
          const project = parseId("proj", text);
          return project === undefined ? undefined : directory.organizationOfProject(project);
        },
      }),
    }),
    clock,
    log,
    tracing,
    stop,
  });
  log.info({ address: server.address }, "billing serves");
  context.ready();
  await aborted(stop);
  await server.closed;
}

function eventsOf(channel: Channel): (afterSeq: bigint) => Promise<EventPage> {
  const client = createClient(EventLogService, channel);
  return fetchEvents((request) => client.listEvents(request, { timeoutMs: 10_000 }));
}

function closing<T extends readonly Channel[]>(list: T): { readonly list: T } & Disposable {
  return {
    list,
    [Symbol.dispose]() {
      for (const channel of list) channel.close();
    },
  };
}

import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type { Bus } from "@fastgpu/events/bus";
import { startConsumer } from "@fastgpu/events/consumer";
import { deniedCallsToOutbox, startDeniedCalls } from "@fastgpu/events/denied-calls";
import { fetchEvents } from "@fastgpu/events/event-log";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { startBusRelay } from "@fastgpu/events/relay";
import { startLoop } from "@fastgpu/lifecycle/loop";
import type { Clock } from "@fastgpu/domain/clock";
import type { Pool } from "@fastgpu/postgres/pool";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { parseId } from "@fastgpu/domain/ids";
import type { EventPage } from "@fastgpu/postgres/outbox";
import { openDatabase } from "@fastgpu/postgres/database";
import { pruneRequests } from "@fastgpu/postgres/requests";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import type { RevocableAuthenticator } from "@fastgpu/rpc/authenticator";
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
import { consumeSchedulerEvents } from "./on/scheduler-events.ts";
import { openOrganizations } from "./organizations.ts";
import type { Directory } from "./organizations.ts";
import { openPriceBook } from "./price-book.ts";
import { billingServices } from "./serve.ts";
import { forgetVoided } from "./store/holds.ts";

const nanosPerUsd = 1_000_000_000n;

/**
 * Runs billing until the context stops it: the API, the relay of its own events and the consumers of others'. Its
 * database has been migrated; nothing else has to be there at the start: auth and the event logs are called when
 * needed, NATS is waited for in the background.
 */
export async function main(config: BillingConfig, context: ServiceContext): Promise<void> {
  const { log, clock, stop, tracing } = context;
  const master = await openMasterKey(config.masterKeyFile);
  await using db = openDatabase({ service: "billing", urls: config.database, log });
  await using bus = openNatsBus({
    url: config.natsUrl,
    prefix: config.natsPrefix,
    name: "billing",
    log,
  });
  await using dialled = new AsyncDisposableStack();
  const dial = dialler(config, context, dialled);
  const auth = dial("auth", config.auth);
  const directory = authDirectory(auth);
  const prices = openPriceBook({ pool: db.core, clock });
  await prices.refresh(0);
  const startingCredit = {
    firstNanos: BigInt(config.startingCreditUsd) * nanosPerUsd,
    othersNanos: BigInt(config.otherStartingCreditUsd) * nanosPerUsd,
  };
  const organizations = openOrganizations({ pool: db.core, clock, log, directory, startingCredit });
  await using relay = startBusRelay({
    ...{ producer: "billing", core: db.core, clock, log, stop, bus, tracing },
  });
  const wakeRelay = (): void => relay.wake();
  const billing = {
    ...{ db, clock, log, prices, organizations, tracing, wakeRelay },
    pageTokens: createPageTokens(master.derive("billing/page-tokens")),
  };
  const write = deniedCallsToOutbox({ core: db.core, clock, wakeRelay });
  await using denied = startDeniedCalls({ write, log, stop });
  await using _upkeep = startUpkeep(db.core, context);
  await using _consumers = startConsumers({ config, billing, bus, stop, dial });
  const verifier = authenticator({ config, clock, auth, directory });
  await using _revocations = bus.listen(signals.keyRevoked, "*", ({ apiKey }) =>
    verifier.revoke(apiKey),
  );
  const server = await startServer({
    listen: config.listen,
    services: billingServices(billing),
    auth: verifier,
    ...{ clock, log, tracing, stop },
    insecure: config.insecure,
    observe: (call) => denied.observe(call),
  });
  log.info({ address: server.address }, "billing serves");
  context.ready();
  await server.closed;
}

type Dial = (service: string, address: string) => Channel;

/** Channels to other services, each call with billing's own token. */
function dialler(
  config: BillingConfig,
  { clock, tracing }: ServiceContext,
  stack: AsyncDisposableStack,
): Dial {
  const { privateKeyPem } = config;
  const identity = createServiceIdentity({ name: "billing", privateKeyPem, clock });
  return (audience, address) => {
    const token: NonNullable<Channel["token"]> = ({ onBehalfOf }) =>
      identity.token({ audience, onBehalfOf });
    return stack.adopt(createChannel({ address, tracing, token }), (channel) => channel.close());
  };
}

/** Follows auth for new organisations and the scheduler for usage. */
function startConsumers(options: {
  readonly config: BillingConfig;
  readonly billing: Parameters<typeof consumeSchedulerEvents>[0]["billing"];
  readonly bus: Bus;
  readonly stop: AbortSignal;
  readonly dial: Dial;
}): AsyncDisposable {
  const { config, billing, bus, stop, dial } = options;
  const { fillEveryMs, producers } = config;
  const fetchFrom = (service: string, address: string): ((seq: bigint) => Promise<EventPage>) => {
    const events = createClient(EventLogService, dial(service, address));
    return fetchEvents((request) =>
      events.listEvents(request, { timeoutMs: 10_000, signal: stop }),
    );
  };
  const stack = new AsyncDisposableStack();
  stack.use(
    startConsumer({
      ...{ producer: "auth", consumer: "billing", core: billing.db.core, log: billing.log },
      ...{ stop, bus, fillEveryMs, fetch: fetchFrom("auth", producers.auth) },
      handlers: [onOrganizationCreated(billing)],
    }),
  );
  stack.use(
    consumeSchedulerEvents({
      ...{ billing, bus, stop, fillEveryMs },
      fetch: fetchFrom("scheduler", producers.scheduler),
    }),
  );
  return stack;
}

/** Forgets request ids that are older than a week, and voids that no create can follow. */
function startUpkeep(core: Pool, { clock, log, stop }: ServiceContext): AsyncDisposable {
  const limit = 10_000;
  return startLoop({
    name: "billing upkeep",
    ...{ stop, log, idleMs: 600_000 },
    step: async () => {
      const options = { nowMs: clock.nowMs(), limit };
      const pruned = await pruneRequests(core, options);
      const forgotten = await forgetVoided(core, options);
      return pruned === limit || forgotten === limit ? "again" : "idle";
    },
  });
}

/** A caller whose token cannot be verified should learn soon that auth is away. */
const patience = { timeoutMs: 5_000, waitForReady: false } as const;

function authenticator(options: {
  readonly config: BillingConfig;
  readonly clock: Clock;
  readonly auth: Channel;
  readonly directory: Directory;
}): RevocableAuthenticator {
  const { clock, directory } = options;
  const tokens = createClient(TokenService, options.auth);
  return createAuthenticator({
    service: "billing",
    clock,
    serviceKeys: options.config.serviceKeys,
    loadKeys: async () =>
      JSON.parse((await tokens.getJwks({}, patience)).jwksJson) as JSONWebKeySet,
    resolveProject: cachedProjects({
      clock,
      load: async (text) => {
        const project = parseId("proj", text);
        return project === undefined ? undefined : directory.organizationOfProject(project);
      },
    }),
  });
}

import { ProjectService, TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import {
  BillingService,
  HoldService,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { deniedCallsToOutbox, startDeniedCalls } from "@fastgpu/events/denied-calls";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { signals } from "@fastgpu/events/topics";
import { startBusRelay } from "@fastgpu/events/relay";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { openDatabase } from "@fastgpu/postgres/database";
import { startLeadership } from "@fastgpu/postgres/leader";
import { readEventHead } from "@fastgpu/postgres/outbox";
import { pruneRequests } from "@fastgpu/postgres/requests";
import { createAuthenticator, type RevocableAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel, type Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { cachedProjects } from "@fastgpu/rpc/projects";
import { startServer } from "@fastgpu/rpc/server";
import { createServiceIdentity } from "@fastgpu/rpc/tokens";
import type { JSONWebKeySet } from "jose";
import type { SchedulerConfig } from "./config.ts";
import { cycleLeader } from "./cycle/commit.ts";
import { createDirty } from "./cycle/dirty.ts";
import { holdsOf } from "./cycle/holds.ts";
import type { MoneyLeft } from "./cycle/purses.ts";
import { lead } from "./cycle/lead.ts";
import { createExplainDesk } from "./explain/desk.ts";
import { readAvailable, readPrices } from "./explain/funds.ts";
import { recorderOf } from "./recording/recorder-of.ts";
import type { Scheduler } from "./scheduler.ts";
import { pruneReservations } from "./store/fleet-reservations.ts";
import { readGpuKinds } from "./store/nodes.ts";
import { schedulerServices, workerServices } from "./services.ts";
import { createStorageGrants } from "./session/grants.ts";
import { createLogBroker } from "./session/log-broker.ts";
import { createReportWriter } from "./session/reports.ts";
import { createSessions, type Sessions } from "./session/sessions.ts";
import { createWatchers } from "./session/watchers.ts";
import { createKnownModels } from "./submit/known-models.ts";
import { createKnownPrices } from "./submit/known-prices.ts";
import { createSubmitWriter } from "./submit/writer.ts";

/**
 * Runs the scheduler until the context stops it. Its database has been migrated. Handlers and sessions serve on every
 * replica; the cycle runs where this one leads.
 */
export async function main(config: SchedulerConfig, context: ServiceContext): Promise<void> {
  const { clock, log, stop, tracing } = context;
  const master = await openMasterKey(config.masterKeyFile);
  // Submits, reports, the cycle, the sender and the relay each have a statement under way at the same time.
  const max = { api: 2, core: 6 };
  await using db = openDatabase({ service: "scheduler", urls: config.database, log, max });
  const { natsUrl: url, natsPrefix: prefix } = config;
  await using bus = openNatsBus({ url, prefix, name: "scheduler", log });
  await using relay = startBusRelay({
    producer: "scheduler",
    core: db.core,
    clock,
    log,
    stop,
    bus,
    tracing,
  });
  await using dialled = new AsyncDisposableStack();
  const dial = dialler(config, context, dialled);
  const auth = dial("auth", config.auth);
  const billing = dial("billing", config.billing);

  const dirty = createDirty();
  const watchers = createWatchers();
  const { leaseTtlMs, skewMs, marginMs, coverMs } = config;
  await using sessions = openSessions(config, context, db.core);
  const told: Scheduler["changed"] = ({ tasks, nodes }) => {
    watchers.notify(tasks);
    sessions.poke(nodes);
    relay.wake();
  };
  const changed: Scheduler["changed"] = ({ tasks, nodes }) => {
    dirty.mark({ tasks, nodes });
    told({ tasks, nodes });
  };
  await using submits = createSubmitWriter({
    core: db.core,
    onStored: (tasks) => changed({ tasks, nodes: [] }),
  });
  await using reports = createReportWriter({
    ...{ core: db.core, clock, log, tracing, onApplied: changed },
  });
  const scheduler: Scheduler = {
    config,
    replica: config.replica,
    incarnation: (await readEventHead(db.core)).incarnation,
    ...{ api: db.api, core: db.core, clock, log, sessions, watchers, submits, reports, changed },
    pageTokens: createPageTokens(master.derive("scheduler/page-tokens")),
    logs: createLogBroker(),
    models: createKnownModels(db.core),
    ...billed({ config, context, core: db.core, channel: billing }),
    projects: createClient(ProjectService, auth),
    storage: createClient(ArtifactService, dial("storage", config.storage)),
  };
  const wakeRelay = (): void => relay.wake();
  await using denied = startDeniedCalls({
    write: deniedCallsToOutbox({ core: db.core, clock, wakeRelay }),
    log,
    stop,
  });
  const verifier = authenticator(config, context, auth);
  await using _revocations = bus.listen(signals.keyRevoked, "*", ({ apiKey }) =>
    verifier.revoke(apiKey),
  );
  const shared = {
    ...{ clock, log, tracing, stop, insecure: config.insecure },
    auth: verifier,
    observe: (call: Parameters<typeof denied.observe>[0]) => denied.observe(call),
  };
  const workers = await startServer({
    ...shared,
    listen: config.workerListen,
    services: workerServices(scheduler),
  });
  await using desk = createExplainDesk({ coreUrl: config.database.core, log });
  const server = await startServer({
    ...shared,
    listen: config.listen,
    services: schedulerServices(scheduler, desk),
  });
  const holds = holdsOf(createClient(HoldService, billing));
  const times = { leaseTtlMs, skewMs, marginMs, coverMs };
  await using _leadership = startLeadership({
    ...{ name: cycleLeader, service: "scheduler", clock, log, stop },
    coreUrl: config.database.core,
    holder: config.replica,
    lead: (term) =>
      lead(
        {
          ...{ core: db.core, clock, log, tracing, dirty, holds, times, changed: told },
          ...{ replica: config.replica, money: moneyLeft(scheduler) },
          policyFile: config.policyFile,
          recorder: (epoch) => recorderOf(config, { clock, log, term: Number(epoch) }),
        },
        term,
      ),
  });
  await using _upkeep = startUpkeep(context, db.core);
  log.info({ address: server.address, workers: workers.address }, "the scheduler serves");
  context.ready();
  await Promise.all([server.closed, workers.closed]);
}

/** The sessions of workers, with what each attempt may do in storage. */
function openSessions(
  config: SchedulerConfig,
  { clock, log, stop }: ServiceContext,
  core: Scheduler["core"],
): Sessions {
  const { leaseTtlMs, privateKeyPem } = config;
  // A heartbeat comes every third of a lease's time: it must not miss the second half of a grant's.
  const ttlMs = Math.max(config.storageGrantTtlMs, 2 * leaseTtlMs);
  const grants = createStorageGrants({ privateKeyPem, clock, ttlMs });
  return createSessions({ core, clock, log, stop, leaseTtlMs, grants });
}

/** Channels to other services, each call with the scheduler's own token. */
function dialler(
  config: SchedulerConfig,
  { clock, tracing }: ServiceContext,
  stack: AsyncDisposableStack,
): (service: string, address: string) => Channel {
  const { privateKeyPem } = config;
  const identity = createServiceIdentity({ name: "scheduler", privateKeyPem, clock });
  return (audience, address) => {
    const token: NonNullable<Channel["token"]> = ({ onBehalfOf }) =>
      identity.token({ audience, onBehalfOf });
    return stack.adopt(createChannel({ address, tracing, token }), (channel) => channel.close());
  };
}

/** Billing, and what a submit knows of its prices. */
function billed(of: {
  config: SchedulerConfig;
  context: ServiceContext;
  core: Scheduler["core"];
  channel: Channel;
}): Pick<Scheduler, "billing" | "prices"> {
  const { clock, log } = of.context;
  const billing = createClient(BillingService, of.channel);
  const load = async () => {
    const [hourlyNanos, kinds] = await Promise.all([readPrices(billing), readGpuKinds(of.core)]);
    return { hourlyNanos, kinds };
  };
  return { billing, prices: createKnownPrices({ times: of.config, clock, log, load }) };
}

/** What the cycle asks about money. */
const moneyLeft = ({ billing, prices }: Scheduler): MoneyLeft => ({
  available: (org) => readAvailable(billing, org),
  leastCosts: () => prices.leastCosts(),
});

/** How long a reservation that is over is kept, in milliseconds. */
const keepEndedMs = 30 * 86_400_000;

/** Forgets request ids that are older than a week, and reservations that have long been over. */
function startUpkeep(
  { clock, log, stop }: ServiceContext,
  core: Scheduler["core"],
): AsyncDisposable {
  return startLoop({
    name: "scheduler upkeep",
    ...{ stop, log, idleMs: 600_000 },
    step: async () => {
      const limit = 10_000;
      const nowMs = clock.nowMs();
      const pruned = await pruneRequests(core, { nowMs, limit });
      const over = await pruneReservations(core, { endedBeforeMs: nowMs - keepEndedMs, limit });
      return pruned === limit || over === limit ? "again" : "idle";
    },
  });
}

/** A caller whose token cannot be verified should learn soon that auth is away. */
const patience = { timeoutMs: 5_000, waitForReady: false } as const;

function authenticator(
  config: SchedulerConfig,
  { clock }: ServiceContext,
  auth: Channel,
): RevocableAuthenticator {
  const tokens = createClient(TokenService, auth);
  const projects = createClient(ProjectService, auth);
  return createAuthenticator({
    service: "scheduler",
    clock,
    serviceKeys: config.serviceKeys,
    loadKeys: async () =>
      JSON.parse((await tokens.getJwks({}, patience)).jwksJson) as JSONWebKeySet,
    resolveProject: cachedProjects({
      clock,
      load: async (id) => {
        try {
          const project = await projects.resolveProject({ name: `projects/${id}` }, patience);
          return project.organization.split("/")[1];
        } catch (error) {
          const fault = Fault.from(error);
          if (fault.reason === "NOT_FOUND" || fault.reason === "INVALID_FIELD") return undefined;
          throw fault;
        }
      },
    }),
  });
}

import type { JSONWebKeySet } from "jose";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { parseId } from "@fastgpu/domain/ids";
import { startConsumer } from "@fastgpu/events/consumer";
import { startDeniedCalls } from "@fastgpu/events/denied-calls";
import { fetchEvents } from "@fastgpu/events/event-log";
import type { Bus } from "@fastgpu/events/bus";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { signals } from "@fastgpu/events/topics";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { openDatabase } from "@fastgpu/postgres/database";
import type { Database } from "@fastgpu/postgres/database";
import { pruneRequests } from "@fastgpu/postgres/requests";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import type { RevocableAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { cachedProjects } from "@fastgpu/rpc/projects";
import { startServer } from "@fastgpu/rpc/server";
import { createServiceIdentity } from "@fastgpu/rpc/tokens";
import { authServices } from "./api/services.ts";
import { checkpointKeys } from "./audit/chain.ts";
import { signGrownChains } from "./audit/checkpoints.ts";
import { chainDeniedCalls } from "./audit/denied.ts";
import type { AuthConfig } from "./config.ts";
import { onAuditRecorded } from "./on/audit-recorded.ts";
import { getProject } from "./store/projects.ts";
import { openSigningKeys } from "./tokens/signing-keys.ts";
import type { SigningKeys } from "./tokens/signing-keys.ts";

const PRUNE_EVERY_MS = 600_000;

/** Runs the auth service until the context stops it. The database has been migrated and bootstrapped. */
export async function main(config: AuthConfig, context: ServiceContext): Promise<void> {
  const { clock, log, stop, tracing } = context;
  const master = await openMasterKey(config.masterKeyFile);
  await using db = openDatabase({ service: "auth", urls: config.database, log });
  await using bus = openNatsBus({
    url: config.natsUrl,
    prefix: config.natsPrefix,
    name: "auth",
    log,
  });
  await using relay = startBusRelay({
    ...{ producer: "auth", core: db.core, clock, log, stop, bus, tracing },
  });
  await using denied = startDeniedCalls({ write: chainDeniedCalls(db.core, clock), log, stop });
  const signing = openSigningKeys({ core: db.core, master, clock });
  await using _upkeep = startUpkeep(config, context, { db, master });
  await using _consumers = startAuditConsumers(config, context, { db, bus });
  const auth = authenticator(config, context, { db, signing });
  await using _revocations = bus.listen(signals.keyRevoked, "*", (told) =>
    auth.revoke(told.apiKey),
  );
  const server = await startServer({
    listen: config.listen,
    services: authServices({
      db,
      master,
      clock,
      env: config.env,
      signing,
      pageTokens: createPageTokens(master.derive("auth/page-tokens")),
      wakeRelay: () => relay.wake(),
      tellRevoked(apiKey) {
        auth.revoke(apiKey);
        bus.send(signals.keyRevoked, apiKey, { apiKey });
      },
    }),
    auth,
    clock,
    log,
    tracing,
    stop,
    insecure: config.insecure,
    observe: (call) => denied.observe(call),
  });
  log.info({ address: server.address }, "auth serves");
  context.ready();
  await server.closed;
}

/** Auth verifies tokens as every service does, only that its keys and projects are at hand. */
function authenticator(
  config: AuthConfig,
  { clock }: ServiceContext,
  own: { db: Database; signing: SigningKeys },
): RevocableAuthenticator {
  return createAuthenticator({
    service: "auth",
    clock,
    serviceKeys: config.serviceKeys,
    loadKeys: async () => {
      own.signing.refresh();
      return JSON.parse(await own.signing.jwksJson()) as JSONWebKeySet;
    },
    resolveProject: cachedProjects({
      clock,
      load: async (id) => {
        const project = parseId("proj", id);
        return project === undefined ? undefined : (await getProject(own.db.core, project))?.orgId;
      },
    }),
  });
}

/** Signs audit chains that grew, and forgets request ids that are older than a week. */
function startUpkeep(
  config: AuthConfig,
  { clock, log, stop }: ServiceContext,
  own: { db: Database; master: MasterKey },
): AsyncDisposable {
  const { core } = own.db;
  const { privateKey } = checkpointKeys(own.master);
  let prunedMs = 0;
  return startLoop({
    name: "auth upkeep",
    stop,
    log,
    idleMs: config.auditCheckpointEveryMs,
    step: async () => {
      const nowMs = clock.nowMs();
      await signGrownChains({ core, privateKey, nowMs, witnessFile: config.auditWitnessFile });
      if (nowMs - prunedMs >= PRUNE_EVERY_MS) {
        prunedMs = nowMs;
        await pruneRequests(core, { nowMs, limit: 10_000 });
      }
      return "idle";
    },
  });
}

/** Follows the event log of every other service for its audit facts. */
function startAuditConsumers(
  config: AuthConfig,
  { clock, log, stop, tracing }: ServiceContext,
  own: { db: Database; bus: Bus },
): AsyncDisposable {
  const stack = new AsyncDisposableStack();
  const identity = createServiceIdentity({
    name: "auth",
    privateKeyPem: config.privateKeyPem,
    clock,
  });
  for (const [producer, address] of Object.entries(config.producers)) {
    const token = (): Promise<string> => identity.token({ audience: producer });
    const channel = stack.adopt(createChannel({ address, token, tracing }), (open) => open.close());
    const events = createClient(EventLogService, channel);
    stack.use(
      startConsumer({
        producer,
        consumer: "auth",
        core: own.db.core,
        bus: own.bus,
        log,
        stop,
        handlers: [onAuditRecorded()],
        fetch: fetchEvents((request) => events.listEvents(request, { signal: stop })),
      }),
    );
  }
  return stack;
}

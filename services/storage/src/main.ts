import type { JSONWebKeySet } from "jose";
import { ProjectService, TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type { Bus } from "@fastgpu/events/bus";
import { startConsumer } from "@fastgpu/events/consumer";
import { deniedCallsToOutbox, startDeniedCalls } from "@fastgpu/events/denied-calls";
import { fetchEvents } from "@fastgpu/events/event-log";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { signals } from "@fastgpu/events/topics";
import { wallClock } from "@fastgpu/lifecycle/clock";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { ServiceContext } from "@fastgpu/lifecycle/service";
import { openDatabase } from "@fastgpu/postgres/database";
import type { Pool } from "@fastgpu/postgres/pool";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import type { RevocableAuthenticator } from "@fastgpu/rpc/authenticator";
import { createChannel } from "@fastgpu/rpc/channel";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createPageTokens } from "@fastgpu/rpc/page-token";
import { cachedProjects } from "@fastgpu/rpc/projects";
import { startServer } from "@fastgpu/rpc/server";
import { createGrantVerifier } from "@fastgpu/rpc/storage-grant";
import type { GrantVerifier } from "@fastgpu/rpc/storage-grant";
import { createServiceIdentity } from "@fastgpu/rpc/tokens";
import { storageServices } from "./api/services.ts";
import { openChunkStore } from "./chunks/chunk-store.ts";
import type { ChunkStore } from "./chunks/chunk-store.ts";
import { openDataKeys } from "./chunks/data-keys.ts";
import { collect } from "./collect.ts";
import type { StorageConfig } from "./config.ts";
import { onTaskStateChanged } from "./on/task-state-changed.ts";
import { createSlots } from "./slots.ts";

/** A chunk's file is left alone for this long after its last write, in milliseconds. */
const FILE_GRACE_MS = 3_600_000;

/** Runs the storage service until the context stops it. The database has been migrated. */
export async function main(config: StorageConfig, context: ServiceContext): Promise<void> {
  const { clock, log, stop, tracing } = context;
  const grants = grantsOf(config, context);
  const master = await openMasterKey(config.masterKeyFile);
  const store = await openChunkStore(config.directory);
  await using db = openDatabase({ service: "storage", urls: config.database, log });
  const { core } = db;
  const nats = { url: config.natsUrl, prefix: config.natsPrefix };
  await using bus = openNatsBus({ ...nats, name: "storage", log });
  await using relay = startBusRelay({
    ...{ producer: "storage", core, clock, log, stop, bus, tracing },
  });
  const wakeRelay = (): void => relay.wake();
  const write = deniedCallsToOutbox({ core, clock, wakeRelay });
  await using denied = startDeniedCalls({ write, log, stop });
  await using _collector = startCollector(config, context, { core, store });
  using closing = new DisposableStack();
  const dial = (audience: string, address: string): Channel =>
    closing.adopt(dialService(config, context, { audience, address }), (channel) =>
      channel.close(),
    );
  const auth = dial("auth", config.auth);
  const scheduler = dial("scheduler", config.scheduler);
  await using _ends = followTasks({ core, clock, log, stop, bus, scheduler });
  const authenticator = authenticatorOf(config, context, auth);
  await using _revocations = bus.listen(signals.keyRevoked, "*", ({ apiKey }) =>
    authenticator.revoke(apiKey),
  );
  const server = await startServer({
    listen: config.listen,
    services: storageServices({
      db,
      store,
      clock,
      dataKeys: openDataKeys({ core, master, clock }),
      pageTokens: createPageTokens(master.derive("storage/page-tokens")),
      maxArtifactBytes: config.maxArtifactBytes,
      uploadSilenceMs: config.uploadSilenceMs,
      uploadSlots: createSlots("uploads", config.maxUploads),
      downloadSlots: createSlots("downloads", config.maxDownloads),
      resolveProject: authenticator.resolveProject,
      grants,
      requireGrants: config.requireGrants,
      wakeRelay,
    }),
    auth: authenticator,
    clock,
    log,
    tracing,
    stop,
    insecure: config.insecure,
    observe: (call) => denied.observe(call),
  });
  log.info({ address: server.address, directory: config.directory }, "storage serves");
  context.ready();
  await server.closed;
}

/** Who verifies workers' grants: without the scheduler's key no worker could store anything. */
function grantsOf(
  { serviceKeys, requireGrants }: StorageConfig,
  context: ServiceContext,
): GrantVerifier {
  const schedulerKeyPem = serviceKeys["scheduler"];
  if (schedulerKeyPem === undefined) {
    throw new Fault("ILLEGAL_STATE", "storage knows no public key of the scheduler", {
      hint: "set storage.serviceKeys.scheduler: the scheduler signs what workers may store",
    });
  }
  if (!requireGrants) {
    context.log.warn("workers without a storage grant are let in, to the files of every project");
  }
  return createGrantVerifier({ schedulerKeyPem, clock: context.clock });
}

function dialService(
  config: StorageConfig,
  { clock, tracing }: ServiceContext,
  to: { readonly audience: string; readonly address: string },
): Channel {
  const { privateKeyPem } = config;
  const identity = createServiceIdentity({ name: "storage", privateKeyPem, clock });
  return createChannel({
    address: to.address,
    tracing,
    token: ({ onBehalfOf }) => identity.token({ audience: to.audience, onBehalfOf }),
  });
}

/** Follows the scheduler for tasks that have ended. */
function followTasks(
  of: Pick<ServiceContext, "clock" | "log" | "stop"> & {
    readonly core: Pool;
    readonly bus: Bus;
    readonly scheduler: Channel;
  },
): AsyncDisposable {
  const { clock, log, stop, core, bus } = of;
  const events = createClient(EventLogService, of.scheduler);
  return startConsumer({
    ...{ producer: "scheduler", consumer: "storage", core, log, stop, bus },
    fetch: fetchEvents((request) =>
      events.listEvents(request, { timeoutMs: 10_000, signal: stop }),
    ),
    handlers: [onTaskStateChanged({ clock })],
  });
}

function authenticatorOf(
  config: StorageConfig,
  { clock }: ServiceContext,
  auth: Channel,
): RevocableAuthenticator {
  const tokens = createClient(TokenService, auth);
  const projects = createClient(ProjectService, auth);
  // A caller whose token cannot be verified should learn soon that auth is away.
  const patience = { timeoutMs: 5_000, waitForReady: false };
  return createAuthenticator({
    service: "storage",
    clock,
    serviceKeys: config.serviceKeys,
    loadKeys: async () =>
      JSON.parse((await tokens.getJwks({}, patience)).jwksJson) as JSONWebKeySet,
    resolveProject: cachedProjects({
      clock,
      load: async (id) => {
        try {
          const { organization } = await projects.resolveProject(
            { name: `projects/${id}` },
            patience,
          );
          return organization.slice("organizations/".length);
        } catch (error) {
          const fault = Fault.from(error);
          if (fault.reason === "NOT_FOUND" || fault.reason === "INVALID_FIELD") return undefined;
          throw fault;
        }
      },
    }),
  });
}

/** Removes what nothing names any more, now and then. */
function startCollector(
  config: StorageConfig,
  { clock, log, stop }: ServiceContext,
  own: { core: Pool; store: ChunkStore },
): AsyncDisposable {
  return startLoop({
    name: "storage collector",
    stop,
    log,
    idleMs: config.collectEveryMs,
    step: async () => {
      const filesBeforeMs = wallClock.nowMs() - FILE_GRACE_MS;
      const collected = await collect({
        ...own,
        nowMs: clock.nowMs(),
        uploadsBeforeMs: clock.nowMs() - config.uploadIdleMs,
        chunksBeforeMs: filesBeforeMs,
        draftsBeforeMs: filesBeforeMs,
        stop,
      });
      if (Object.values<number>({ ...collected }).some((count) => count > 0)) {
        log.info(collected, "collected");
      }
      return "idle";
    },
  });
}

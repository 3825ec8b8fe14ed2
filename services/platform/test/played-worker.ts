import { createHash, randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WorkerIdentityService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import {
  AttemptStorageService,
  type ManifestFileSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import {
  type ConnectRequest,
  ConnectRequestSchema,
  type HeartbeatAck,
  type Lease,
  type ReportSchema,
  WorkerSessionService,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient, type CallOptions, type Client } from "@fastgpu/rpc/client";
import { storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import { eventually } from "@fastgpu/testkit/signals";
import { openIdentity } from "@fastgpu/worker/identity/identity";
import { createSendQueue, type SendQueue } from "@fastgpu/worker/session/send-queue";
import type { TestPlatform } from "./harness.ts";

type Event = NonNullable<
  Exclude<MessageInitShape<typeof ReportSchema>, { $typeName: string }>["event"]
>;

/** A file in storage, as a manifest lists it. */
export type ListedFile = Exclude<
  MessageInitShape<typeof ManifestFileSchema>,
  { $typeName: string }
>;

/** A worker in a test's own hand: joined with a key of its own, it runs nothing and says only what it is told to. */
export interface PlayedWorker extends AsyncDisposable {
  readonly node: string;
  token(): Promise<string>;
  /** Storage with this worker's own token, and no grant but what the call's options say. */
  readonly storage: Client<typeof AttemptStorageService>;
  /** The newest grant of an attempt, as options of a call. */
  granted(attempt: string): CallOptions;
  /** Grants of an attempt in the order in which they came; the lease's is the first. */
  readonly grants: ReadonlyMap<string, readonly string[]>;
  /** Opens a session, in the place of the one before, and tells of the attempts that it has. */
  connect(): Promise<void>;
  /** The lease of a task's attempt; `number`: how many came before it. */
  leaseOf(task: string, number?: number, rank?: number): Promise<Lease>;
  /** Tells of an attempt and waits until that is durable. */
  report(lease: Lease, ...events: readonly Event[]): Promise<void>;
  /** Stores a file as an attempt and answers how a manifest lists it. */
  store(
    of: { readonly parent: string; readonly attempt: string; readonly path?: string },
    options: CallOptions,
  ): Promise<ListedFile>;
}

const heartbeatMs = 200;

/** Joins a worker to a platform. It has no GPUs. */
export async function playWorker(p: TestPlatform, name: string): Promise<PlayedWorker> {
  await using stack = new AsyncDisposableStack();
  const ended = new AbortController();
  const sockets = join(p.platform.dataDir, "run");
  const dial = (address: string, token?: () => Promise<string>) =>
    stack.adopt(createChannel({ address, ...(token === undefined ? {} : { token }) }), (channel) =>
      channel.close(),
    );
  stack.defer(() => ended.abort());
  const gateway = dial(p.platform.address, () => Promise.resolve(p.key));
  const { joinToken } = await createClient(WorkerIdentityService, gateway).createWorkerJoinToken(
    {},
  );
  const identity = await openIdentity({
    path: join(p.directory, `${name}.json`),
    channel: dial(`unix:${join(sockets, "auth.sock")}`),
    ...{ joinToken, displayName: name, stop: ended.signal },
  });
  const token = (): Promise<string> => identity.token();
  const scheduler = createClient(WorkerSessionService, dial(p.workersAddress, token));
  const storage = createClient(
    AttemptStorageService,
    dial(`unix:${join(sockets, "storage.sock")}`, token),
  );
  const leases = new Map<string, Lease>();
  const over = new Set<string>();
  const grants = new Map<string, string[]>();
  const keep = (attempt: string, grant: string): void =>
    void grants.set(attempt, [...(grants.get(attempt) ?? []), grant]);
  let queue: SendQueue<ConnectRequest> = createSendQueue();
  let acknowledged = 0n;
  let reports = 0n;
  const send = (message: NonNullable<MessageInitShape<typeof ConnectRequestSchema>["message"]>) =>
    queue.push(create(ConnectRequestSchema, { message }));
  const onAck = (ack: HeartbeatAck): void => {
    for (const { attempt, grant } of ack.storageGrants) keep(attempt, grant);
  };

  async function receive(own: SendQueue<ConnectRequest>, welcomed: () => void): Promise<void> {
    const beat = (): void =>
      send({ case: "heartbeat", value: { sentAtMs: BigInt(Date.now()), progress: [] } });
    let timer: NodeJS.Timeout | undefined;
    try {
      for await (const { message } of scheduler.connect(own, { signal: ended.signal })) {
        if (own !== queue) return;
        if (message.case === "welcome") {
          timer = setInterval(beat, heartbeatMs);
          welcomed();
        }
        if (message.case === "heartbeatAck") onAck(message.value);
        if (message.case === "reportAcks") acknowledged = message.value.upToReportId;
        if (message.case !== "leases") continue;
        for (const lease of message.value.leases) {
          leases.set(lease.attempt, lease);
          keep(lease.attempt, lease.storageGrant);
        }
      }
    } finally {
      clearInterval(timer);
    }
  }

  const stillOpen = stack.move();
  return {
    node: identity.node,
    token,
    storage,
    grants,
    granted: (attempt) => ({
      headers: { [storageGrantHeader]: grants.get(attempt)?.at(-1) ?? "" },
    }),
    async connect() {
      const own = createSendQueue<ConnectRequest>();
      queue.end();
      queue = own;
      const live = [...leases.values()].filter(({ attempt }) => !over.has(attempt));
      send({
        case: "hello",
        value: {
          ...{ displayName: name, workerVersion: "played", bootId: "boot" },
          ...{ cpuMillis: 64_000n, memoryMib: 65_536n, diskMib: 65_536n },
          runtimes: ["process"],
          liveAttempts: live.map(({ attempt, epoch }) => ({ attempt, epoch })),
        },
      });
      const welcome = Promise.withResolvers<void>();
      void receive(own, welcome.resolve).catch(welcome.reject);
      await welcome.promise;
    },
    leaseOf: (task, number = 0, rank = 0) =>
      eventually(
        `attempt ${number} of ${task} is leased`,
        () => {
          const id = task.split("/").at(-1);
          const own = [...leases.values()].filter(
            (lease) => lease.task === id && (lease.gang?.rank ?? 0) === rank,
          );
          return own.toSorted((x, y) => Number(x.epoch - y.epoch))[number];
        },
        60_000,
      ),
    async report({ attempt, epoch }, ...events) {
      const told = events.map((event) => {
        if (event.case === "ended") over.add(attempt);
        reports += 1n;
        return { reportId: reports, attempt, epoch, agoMs: 0n, event };
      });
      send({ case: "reports", value: { reports: told } });
      const last = reports;
      await eventually("the reports are durable", () => acknowledged >= last, 60_000);
    },
    async store({ parent, attempt, path = "file" }, options) {
      const content = randomBytes(64);
      const sha256 = createHash("sha256").update(content).digest("hex");
      const header = { parent, attempt, displayName: path, uploadId: randomUUID(), offset: 0n };
      const { name: artifact, sizeBytes } = await storage.storeArtifact(
        (async function* () {
          yield { part: { case: "header" as const, value: { ...header, sha256 } } };
          yield { part: { case: "data" as const, value: content } };
        })(),
        options,
      );
      return { path, artifact, sizeBytes, sha256 };
    },
    async [Symbol.asyncDispose]() {
      queue.end();
      await stillOpen[Symbol.asyncDispose]();
    },
  };
}

import { createHash, randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  TokenService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { ExitClass, TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  AttemptStorageService,
  type ManifestFile,
  type PutManifestRequest,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import {
  type AttemptProgress,
  type ConnectResponse,
  ConnectResponseSchema,
  type Hello,
  LeaseSchema,
  type Report,
  type ServeLogsRequest,
  type ServeLogsResponse,
  ServeLogsResponseSchema,
  WorkerSessionService,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Fault } from "@fastgpu/domain/fault";
import { newId } from "@fastgpu/domain/ids";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import type { CallContext } from "@fastgpu/rpc/context";
import { service } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { grantRefused, storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import { generateServiceKeys, loadSigningKey, signAccessToken } from "@fastgpu/rpc/tokens";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { type SendQueue, createSendQueue } from "../src/session/send-queue.ts";

/** The other end of a worker's lines: a scripted scheduler with auth and storage, over real gRPC. */
export interface Peer extends AsyncDisposable {
  readonly address: string;
  readonly reports: Report[];
  readonly hellos: Hello[];
  readonly progress: AttemptProgress[];
  readonly files: Map<string, { content: Buffer; project: string }>;
  readonly manifests: ManifestFile[][];
  /** Manifests that are checkpoints, with their digest. */
  readonly checkpoints: (PutManifestRequest & { readonly digest: string })[];
  /** Heartbeats answered. */
  heartbeats: number;
  /** Calls to storage with the grants that they carried. */
  readonly storageCalls: { readonly method: string; readonly grant: string }[];
  /** Grants that storage refuses as expired. */
  readonly endedGrants: Set<string>;
  /** What acknowledgements of heartbeats bring. */
  newGrants: readonly { readonly attempt: string; readonly grant: string }[];
  /** Acknowledge reports and heartbeats, or stay silent. */
  ackReports: boolean;
  ackHeartbeats: boolean;
  incarnation: number;
  leaseTtlMs: number;
  heartbeatMs: number;
  /** Attempts that a Welcome adopts; default: all that the Hello lists. */
  adopt: (hello: Hello) => string[];
  lease(spec: MessageInitShape<typeof TaskSpecSchema>, more?: LeaseInit): string;
  stop(attempt: string, reason: ExitClass, graceMs: number): void;
  /** Breaks the session's connection. */
  cut(): void;
  /** Asks the worker for a range of a log. */
  askLog(wanted: MessageInitShape<typeof ServeLogsResponseSchema>): Promise<ServeLogsRequest>;
  /** Resolves once `check` holds, asked again whenever something comes. */
  until(check: () => boolean): Promise<void>;
  report(attempt: string, kind: Report["event"]["case"]): Promise<Report>;
}

type LeaseInit = Exclude<MessageInitShape<typeof LeaseSchema>, { $typeName: string }>;

export const project = newId("proj", 1, randomBytes(10));
const log = createLogger({ service: "peer", level: "silent" });
const clock = { nowMs: () => Date.now() };

export async function startPeer(): Promise<Peer> {
  const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const node = newId("node", Date.now(), randomBytes(10));
  const waiting = new Set<() => void>();
  const changed = (): void => waiting.forEach((check) => check());
  let out: SendQueue<ConnectResponse> | undefined;
  let logs: SendQueue<ServeLogsResponse> | undefined;
  let broken = new AbortController();
  const logAnswers = new Map<bigint, (answer: ServeLogsRequest) => void>();
  let nextLog = 1n;
  const keyOf = new Map<string, string>();
  const contents = new Map<string, Buffer>();

  const send = (message: MessageInitShape<typeof ConnectResponseSchema>["message"]): void =>
    out?.push(create(ConnectResponseSchema, { message: message ?? { case: undefined } }));
  const peer: Omit<Peer, "address" | typeof Symbol.asyncDispose> = {
    reports: [],
    hellos: [],
    progress: [],
    files: new Map(),
    manifests: [],
    checkpoints: [],
    heartbeats: 0,
    storageCalls: [],
    endedGrants: new Set(),
    newGrants: [],
    ackReports: true,
    ackHeartbeats: true,
    incarnation: 1,
    leaseTtlMs: 60_000,
    heartbeatMs: 100,
    adopt: (hello) => hello.liveAttempts.map((live) => live.attempt),
    lease(spec, more = {}) {
      const attempt = newId("att", Date.now(), randomBytes(10));
      const lease = create(LeaseSchema, {
        attempt,
        task: newId("task", Date.now(), randomBytes(10)),
        project,
        epoch: 1n,
        spec,
        gpus: [],
        leaseEndMs: BigInt(Date.now() + peer.leaseTtlMs),
        serverTimeMs: BigInt(Date.now()),
        attemptNumber: 0,
        storageGrant: `grant of ${attempt}`,
        ...more,
      });
      send({ case: "leases", value: { leases: [lease] } });
      return lease.attempt;
    },
    stop: (attempt, reason, graceMs) =>
      send({
        case: "stops",
        value: { stops: [{ attempt, epoch: 1n, reason, graceMs: BigInt(graceMs) }] },
      }),
    cut() {
      broken.abort();
      out?.end();
    },
    askLog(wanted) {
      const requestId = nextLog++;
      logs?.push(create(ServeLogsResponseSchema, { ...wanted, requestId }));
      return new Promise((resolve) => logAnswers.set(requestId, resolve));
    },
    until: (check) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!check()) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    async report(attempt, kind) {
      const find = (): Report | undefined =>
        peer.reports.find((r) => r.attempt === attempt && r.event.case === kind);
      await peer.until(() => find() !== undefined);
      const found = find();
      if (found === undefined) throw new Error("no report");
      return found;
    },
  };

  const sessions = service(WorkerSessionService, {
    async *connect(requests) {
      const queue = createSendQueue<ConnectResponse>();
      out = queue;
      broken = new AbortController();
      const cut = broken.signal;
      void (async () => {
        for await (const { message } of requests) {
          if (cut.aborted) return;
          switch (message.case) {
            case "hello": {
              peer.hellos.push(message.value);
              const gpus = message.value.gpus.map((gpu) => `gpu-${gpu.index}`);
              send({
                case: "welcome",
                value: {
                  node,
                  incarnation: peer.incarnation,
                  sessionEpoch: BigInt(peer.hellos.length),
                  heartbeatIntervalMs: BigInt(peer.heartbeatMs),
                  leaseTtlMs: BigInt(peer.leaseTtlMs),
                  gpus,
                  adoptedAttempts: peer.adopt(message.value),
                },
              });
              break;
            }
            case "heartbeat":
              peer.progress.push(...message.value.progress);
              if (peer.ackHeartbeats) {
                const nodeLeaseEndMs = BigInt(Date.now() + peer.leaseTtlMs);
                const { sentAtMs } = message.value;
                const storageGrants = [...peer.newGrants];
                const serverTimeMs = BigInt(Date.now());
                const value = { sentAtMs, serverTimeMs, nodeLeaseEndMs, storageGrants };
                send({ case: "heartbeatAck", value });
                peer.heartbeats += 1;
              }
              break;
            case "reports": {
              peer.reports.push(...message.value.reports);
              const last = message.value.reports.at(-1)?.reportId ?? 0n;
              if (peer.ackReports) send({ case: "reportAcks", value: { upToReportId: last } });
              break;
            }
            case "draining":
            case undefined:
              break;
          }
          changed();
        }
        queue.end();
      })().catch(() => queue.end());
      yield* queue;
      if (cut.aborted) throw new Fault("UNAVAILABLE", "cut by the test");
    },
    async *serveLogs(requests) {
      const queue = createSendQueue<ServeLogsResponse>();
      logs = queue;
      void (async () => {
        for await (const answer of requests) {
          logAnswers.get(answer.requestId)?.(answer);
          changed();
        }
        queue.end();
      })().catch(() => queue.end());
      changed();
      yield* queue;
    },
  });

  const checkGrant = (method: string, context: CallContext): void => {
    const grant = context.header(storageGrantHeader) ?? "";
    peer.storageCalls.push({ method, grant });
    changed();
    if (peer.endedGrants.has(grant)) throw grantRefused("expired", "the storage grant has ended");
  };
  const storage = service(AttemptStorageService, {
    async storeArtifact(requests, context) {
      checkGrant("storeArtifact", context);
      let header: { displayName: string; parent: string; sha256: string } | undefined;
      const chunks: Uint8Array[] = [];
      for await (const { part } of requests) {
        if (part.case === "header") header = part.value;
        if (part.case === "data") chunks.push(part.value);
      }
      const content = Buffer.concat(chunks);
      const sha256 = createHash("sha256").update(content).digest("hex");
      if (header === undefined || header.sha256 !== sha256)
        throw new Fault("CHECKSUM_MISMATCH", "x");
      peer.files.set(header.displayName, { content, project: header.parent });
      changed();
      const name = `${header.parent}/artifacts/${newId("art", Date.now(), randomBytes(10))}`;
      contents.set(name, content);
      return { name, displayName: header.displayName, sha256, sizeBytes: BigInt(content.length) };
    },
    putManifest(request, context) {
      checkGrant("putManifest", context);
      const { files } = request;
      if (request.checkpoint === undefined) {
        peer.manifests.push(files);
        return Promise.resolve({ digest: "d".repeat(64), files });
      }
      const digest = String(peer.checkpoints.length).padStart(64, "c");
      peer.checkpoints.push({ ...request, digest });
      return Promise.resolve({ digest, files });
    },
    fetchManifest({ digest }, context) {
      checkGrant("fetchManifest", context);
      const found = peer.checkpoints.find((checkpoint) => checkpoint.digest === digest);
      if (found === undefined) throw Fault.notFound(digest);
      return Promise.resolve({ digest, files: found.files });
    },
    async *fetchArtifact({ name }, context) {
      checkGrant("fetchArtifact", context);
      yield { data: contents.get(name) ?? Buffer.from(`content of ${name.split("/").at(-1)}`) };
    },
  });
  const tokens = service(TokenService, {
    async exchangeToken() {
      const claims = { sub: node, role: "worker" } as const;
      const accessToken = await signAccessToken({ key, claims, nowMs: Date.now() });
      return { accessToken, expireTime: timestampFromMs(Date.now() + 600_000), principal: node };
    },
    getJwks: () => Promise.resolve({ jwksJson: JSON.stringify({ keys: [key.jwk] }) }),
  });
  const identities = service(WorkerIdentityService, {
    createWorkerJoinToken: () => Promise.resolve({ joinToken: "unused" }),
    joinWorker({ joinToken, publicKey }) {
      const hex = Buffer.from(publicKey).toString("hex");
      const before = keyOf.get(joinToken) ?? hex;
      if (before !== hex) throw new Fault("JOIN_TOKEN_USED", "used");
      keyOf.set(joinToken, hex);
      return Promise.resolve({ node });
    },
  });
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [sessions, storage, tokens, identities],
    auth: createAuthenticator({
      service: "test",
      clock,
      loadKeys: () => Promise.resolve({ keys: [key.jwk] }),
      serviceKeys: {},
      resolveProject: () => undefined,
    }),
    clock,
    log,
    tracing: passiveTracing,
  });
  return Object.assign(peer, {
    address: server.address,
    async [Symbol.asyncDispose]() {
      out?.end();
      logs?.end();
      await server.close(100);
    },
  });
}

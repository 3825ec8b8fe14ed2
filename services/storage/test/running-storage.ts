import { createHash, randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import type { NodeId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Role } from "@fastgpu/domain/roles";
import { openDatabase } from "@fastgpu/postgres/database";
import type { Database } from "@fastgpu/postgres/database";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Client } from "@fastgpu/rpc/client";
import { generateServiceKeys } from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { manualClock } from "@fastgpu/testkit/clock";
import type { ManualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import { aTenant, anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory, testNatsServer } from "@fastgpu/testkit/servers";
import { storageConfig } from "../src/config.ts";
import type { StorageConfig } from "../src/config.ts";
import { main } from "../src/main.ts";
import { playAuth } from "./played-auth.ts";

/** A tenant that storage can look up. */
export interface Tenant {
  readonly org: OrgId;
  readonly project: ProjectId;
  /** `projects/{project}`. */
  readonly parent: string;
}

/** What a storage service needs around it: database, played auth, directories. */
export interface StorageWorld extends AsyncDisposable {
  readonly config: StorageConfig;
  readonly clock: ManualClock;
  readonly db: Database;
  /** Private key (PEM) of the scheduler that storage knows. */
  readonly schedulerKeyPem: string;
  /** The node that workers' tokens are of. */
  readonly node: NodeId;
  newTenant(): Tenant;
  /** A token in a role of a tenant. */
  tokenOf(role: Role, tenant?: Tenant): Promise<string>;
  /** A client in a role of a tenant; `worker` has none. */
  as<S extends DescService>(service: S, role: Role, tenant?: Tenant, keyId?: string): Client<S>;
}

/** Makes that world; nothing serves yet. */
export async function storageWorld(overrides: Partial<StorageConfig> = {}): Promise<StorageWorld> {
  await using starting = new AsyncDisposableStack();
  const database = starting.use(await testDatabase({ services: ["storage"] }));
  const urls = database.urls["storage"];
  if (urls === undefined) throw new Error("no urls");
  const db = starting.use(openDatabase({ service: "storage", urls, log: quiet }));
  const directory = await scratchDirectory();
  const clock = manualClock();
  const keys = generateServiceKeys();
  const scheduler = generateServiceKeys();
  const node = anId("node");
  const auth = starting.use(await playAuth({ directory, clock, storageKey: keys.publicKeyPem }));
  const path = join(directory, "storage.sock");
  const config = storageConfig.parse({
    listen: { path },
    database: { api: urls.api, core: urls.core },
    natsUrl: await testNatsServer(),
    natsPrefix: `t${randomBytes(6).toString("hex")}`,
    masterKeyFile: join(directory, "keys", "master.key"),
    directory: join(directory, "chunks"),
    privateKeyPem: keys.privateKeyPem,
    serviceKeys: { scheduler: scheduler.publicKeyPem },
    auth: auth.address,
    // Nobody serves there: events are asked for again.
    scheduler: `unix:${join(directory, "scheduler.sock")}`,
    ...overrides,
  });
  const tokenOf = (role: Role, tenant?: Tenant, keyId: string = "key-01"): Promise<string> => {
    const sub = role === "worker" ? node : keyId;
    return auth.tokenOf({ sub, role, ...(tenant === undefined ? {} : { org: tenant.org }) });
  };
  const stack = starting.move();
  return {
    config,
    clock,
    db,
    schedulerKeyPem: scheduler.privateKeyPem,
    node,
    newTenant() {
      const tenant = aTenant();
      auth.projects.set(tenant.project, tenant.org);
      return { ...tenant, parent: `projects/${tenant.project}` };
    },
    tokenOf,
    as(service, role, tenant, keyId) {
      const token = (): Promise<string> => tokenOf(role, tenant, keyId);
      const channel = createChannel({ address: `unix:${path}`, token });
      stack.defer(() => channel.close());
      return createClient(service, channel);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Runs the service in this process. */
export async function runStorage(world: StorageWorld): Promise<AsyncDisposable> {
  const controller = new AbortController();
  const ready = Promise.withResolvers<void>();
  const running = main(world.config, {
    stop: controller.signal,
    ready: ready.resolve,
    log: quiet,
    clock: world.clock,
    tracing: passiveTracing,
  });
  await Promise.race([ready.promise, running]);
  return {
    async [Symbol.asyncDispose]() {
      controller.abort();
      await running;
    },
  };
}

/** The messages of an upload: a header, then the content from its offset on in pieces. */
export async function* uploadOf(
  content: Uint8Array,
  header: {
    parent: string;
    displayName?: string;
    uploadId?: string;
    offset?: number;
    sha256?: string;
    attempt?: string;
  },
  pieceBytes: number = 300_000,
) {
  const { offset = 0, displayName = "file", uploadId = randomUUID() } = header;
  yield {
    part: {
      case: "header" as const,
      value: { ...header, displayName, uploadId, offset: BigInt(offset) },
    },
  };
  for (let at = offset; at < content.length; at += pieceBytes) {
    yield { part: { case: "data" as const, value: content.subarray(at, at + pieceBytes) } };
  }
}

/** Bytes of a MiB. */
export const MIB = 1 << 20;

/** Digest of a content, as an upload states it. */
export const sha256 = (content: Uint8Array): string =>
  createHash("sha256").update(content).digest("hex");

/** All of a download. */
export async function collectBytes(pieces: AsyncIterable<{ data: Uint8Array }>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const { data } of pieces) all.push(data);
  return Buffer.concat(all);
}

/** Expects a Fault; answers it. */
export async function faultOf(call: Promise<unknown>): Promise<{
  reason: string;
  code: string;
  message: string;
  metadata: Readonly<Record<string, string>>;
  violations: readonly { field: string }[];
}> {
  return call.then(
    () => {
      throw new Error("the call was accepted");
    },
    (error: unknown) => error as never,
  );
}

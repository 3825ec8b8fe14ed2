import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import {
  ApiKeyService,
  OrganizationService,
  ProjectService,
  TokenService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type {
  ExchangeTokenResponse,
  Organization,
  Project,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { openMasterKey } from "@fastgpu/lifecycle/master-key";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import { openDatabase } from "@fastgpu/postgres/database";
import type { Database } from "@fastgpu/postgres/database";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Client } from "@fastgpu/rpc/client";
import { createServiceIdentity, generateServiceKeys } from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { manualClock } from "@fastgpu/testkit/clock";
import type { ManualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import type { TestDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory, testNatsServer } from "@fastgpu/testkit/servers";
import { bootstrap } from "../src/bootstrap.ts";
import type { Bootstrapped } from "../src/bootstrap.ts";
import { authConfig } from "../src/config.ts";
import type { AuthConfig } from "../src/config.ts";
import { main } from "../src/main.ts";

/** The auth service on a database of its own, bootstrapped, serving on a unix socket. */
export interface RunningAuth extends AsyncDisposable {
  readonly address: string;
  readonly db: Database;
  readonly database: TestDatabase;
  readonly master: MasterKey;
  readonly clock: ManualClock;
  readonly first: Bootstrapped;
  /** Ends the service; the database stays until the end of the test. */
  stop(): Promise<void>;
  /** A client with the token that an API key is exchanged for; without a key, an anonymous one. */
  as<S extends DescService>(service: S, key?: string): Client<S>;
  /** A client with a raw token. */
  withToken<S extends DescService>(service: S, token: string): Client<S>;
  /** A client with the token of a service. */
  asService<S extends DescService>(service: S, name: string): Client<S>;
  /** The answer to an API key. */
  exchange(key: string): Promise<ExchangeTokenResponse>;
  /** Another organisation, with a key of its administrator's and a project. */
  newTenant(displayName: string): Promise<NewTenant>;
}

interface NewTenant {
  readonly organization: Organization;
  readonly adminKey: string;
  readonly adminKeyName: string;
  readonly project: Project;
}

/** Starts it. Ends with `await using`. */
export async function startAuth(
  overrides: Partial<AuthConfig> = {},
  given?: TestDatabase,
): Promise<RunningAuth> {
  await using starting = new AsyncDisposableStack();
  const database = given ?? starting.use(await testDatabase({ services: ["auth"] }));
  const urls = database.urls["auth"];
  if (urls === undefined) throw new Error("no urls");
  const directory = await scratchDirectory();
  const clock = manualClock();
  const [own, scheduler] = [generateServiceKeys(), generateServiceKeys()];
  const path = join(directory, "auth.sock");
  const config = authConfig.parse({
    listen: { path },
    database: { api: urls.api, core: urls.core },
    natsUrl: await testNatsServer(),
    natsPrefix: `t${randomBytes(6).toString("hex")}`,
    masterKeyFile: join(directory, "keys", "master.key"),
    env: "test",
    privateKeyPem: own.privateKeyPem,
    serviceKeys: { auth: own.publicKeyPem, scheduler: scheduler.publicKeyPem },
    ...overrides,
  });
  const master = await openMasterKey(config.masterKeyFile);
  const db = starting.use(openDatabase({ service: "auth", urls, log: quiet }));
  const first = await bootstrap({ core: db.core, master, nowMs: clock.nowMs(), env: "test" });
  const controller = new AbortController();
  const ready = Promise.withResolvers<void>();
  const running = main(config, {
    stop: controller.signal,
    ready: ready.resolve,
    log: quiet,
    clock,
    tracing: passiveTracing,
  });
  const stop = async (): Promise<void> => {
    controller.abort();
    await running;
  };
  starting.defer(stop);
  await Promise.race([ready.promise, running]);
  const address = `unix:${path}`;
  const stack = starting.move();
  const clientOf = <S extends DescService>(
    service: S,
    token?: () => Promise<string>,
  ): Client<S> => {
    const channel = createChannel(token === undefined ? { address } : { address, token });
    stack.defer(() => channel.close());
    return createClient(service, channel);
  };
  const exchange = (key: string) =>
    clientOf(TokenService).exchangeToken({ credential: { case: "apiKey", value: key } });
  const as = <S extends DescService>(service: S, key?: string): Client<S> =>
    key === undefined
      ? clientOf(service)
      : clientOf(service, async () => (await exchange(key)).accessToken);
  return {
    address,
    db,
    database,
    master,
    clock,
    first,
    stop,
    as,
    withToken: (service, token) => clientOf(service, () => Promise.resolve(token)),
    asService(service, name) {
      const { privateKeyPem } = name === "scheduler" ? scheduler : own;
      const identity = createServiceIdentity({ name, privateKeyPem, clock });
      return clientOf(service, () => identity.token({ audience: "auth" }));
    },
    exchange,
    async newTenant(displayName) {
      const operator = first.firstKey?.secret ?? "";
      const organizations = as(OrganizationService, operator);
      const organization = await organizations.createOrganization({
        organization: { displayName },
      });
      const { secret, apiKey } = await as(ApiKeyService, operator).createApiKey({
        parent: organization.name,
        apiKey: { displayName: "admin", role: "org_admin" },
      });
      const project = await as(ProjectService, secret).createProject({
        parent: organization.name,
        project: { displayName: "p" },
      });
      return { organization, adminKey: secret, adminKeyName: apiKey?.name ?? "", project };
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Expects a Fault; answers it. */
export async function faultOf(call: Promise<unknown>): Promise<{
  reason: string;
  message: string;
  hint?: string;
  violations: readonly { field: string }[];
}> {
  return call.then(
    () => {
      throw new Error("the call was accepted");
    },
    (error: unknown) => error as never,
  );
}

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Health } from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { ServerReflection } from "@fastgpu/contracts/grpc/reflection/v1/reflection_pb";
import { ServerReflection as ServerReflectionAlpha } from "@fastgpu/contracts/grpc/reflection/v1alpha/reflection_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aborted, stopReason } from "@fastgpu/lifecycle/signals";
import type { StopReason } from "@fastgpu/lifecycle/signals";
import { createTestCertificate } from "@fastgpu/testkit/certificate";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createChannel } from "../src/channel.ts";
import { createClient } from "../src/client.ts";
import type { CallContext } from "../src/context.ts";
import { service } from "../src/handlers.ts";
import type { AnyHandlers, BoundService } from "../src/handlers.ts";
import type { Listen } from "../src/listen.ts";
import { startServer } from "../src/server.ts";
import type { ServerOptions } from "../src/server.ts";
import { clock, createAuthority, log } from "./harness.ts";
import type { Authority } from "./harness.ts";

let authority: Authority;
let directory: string;

beforeAll(async () => {
  authority = await createAuthority();
  directory = mkdtempSync(join(tmpdir(), "rpc-"));
});

afterAll(() => rmSync(directory, { recursive: true }));

const loopback: Listen = { host: "127.0.0.1", port: 0 };

function start(services: readonly BoundService[], options: Partial<ServerOptions> = {}) {
  return startServer({
    listen: loopback,
    services,
    auth: authority.authenticator,
    clock,
    log,
    tracing: passiveTracing,
    ...options,
  });
}

/** The nodes' service, whose ListNodes does what the test says. */
function nodes(list: (context: CallContext) => Promise<void> = () => Promise.resolve()) {
  return service(NodeService, {
    async listNodes(_, context) {
      await list(context);
      return { nextPageToken: "listed" };
    },
    getNode: () => Promise.reject(new Error("unused")),
    listGpus: () => Promise.reject(new Error("unused")),
  });
}

/** Tasks of which only the watch is served. */
function watching(watch: (context: CallContext) => AsyncIterable<object>): BoundService {
  const unused = () => Promise.reject(new Error("unused"));
  const handlers = Object.fromEntries(TaskService.methods.map((one) => [one.localName, unused]));
  const watchTask = (_: unknown, context: CallContext) => watch(context);
  return { descriptor: TaskService, handlers: { ...handlers, watchTask } as AnyHandlers };
}

const userToken = (ttlMs?: number) => () =>
  authority.token({ sub: "key-a", org: "org-a", role: "org_admin" }, ttlMs);

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Fault) return outcome;
  throw new Error(`expected a fault, got ${String(outcome)}`);
}

async function readAll(stream: AsyncIterable<unknown>, onItem: () => void): Promise<void> {
  for await (const _ of stream) onItem();
}

describe("starting", () => {
  test("without a method's handler fails", async () => {
    const incomplete = { descriptor: NodeService, handlers: {} };
    await expect(start([incomplete])).rejects.toThrow("NodeService/ListNodes has no handler");
  });

  test("with a method that declares no authorization fails", async () => {
    const undeclared = {
      descriptor: Health,
      handlers: { check: () => ({}), list: () => ({}), watch: () => ({}) } as AnyHandlers,
    };
    await expect(start([undeclared])).rejects.toThrow("declares no authorization");
  });

  test("on an address that others reach without TLS is refused, unless told to", async () => {
    const listen = { host: "0.0.0.0", port: 0 };
    const fault = await faultOf(start([nodes()], { listen }));
    expect(fault.message).toContain("without TLS");
    expect(fault.hint).toContain("--insecure");
    const server = await start([nodes()], { listen, insecure: true });
    await server.close(0);
  });

  test("on a taken port is a fault that names it", async () => {
    const first = await start([nodes()]);
    const fault = await faultOf(
      start([nodes()], { listen: { host: "127.0.0.1", port: first.port ?? 0 } }),
    );
    expect(fault.message).toContain(String(first.port));
    await first.close(0);
  });
});

describe("a unix socket", () => {
  test("serves its owner only, and takes over the file that a killed server left", async () => {
    const path = join(directory, "left.sock");
    const script =
      "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
    spawnSync(process.execPath, ["-e", script, path]);
    expect(statSync(path).isSocket()).toBe(true);
    const server = await start([nodes()], { listen: { path } });
    expect(server.address).toBe(`unix:${path}`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const channel = createChannel({ address: server.address, token: userToken() });
    const answer = await createClient(NodeService, channel).listNodes({});
    expect(answer.nextPageToken).toBe("listed");
    channel.close();
    await server.close(0);
  });

  test("that somebody answers on is left alone", async () => {
    const path = join(directory, "busy.sock");
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once("listening", resolve));
    const fault = await faultOf(start([nodes()], { listen: { path } }));
    expect(fault.message).toContain("in use");
    await new Promise((resolve) => other.close(resolve));
  });

  test("with too long a path is refused with the way out", async () => {
    const path = join(directory, "x".repeat(120));
    expect((await faultOf(start([nodes()], { listen: { path } }))).hint).toContain("--data");
  });
});

describe("health and reflection", () => {
  test("answer anybody", async () => {
    const server = await start([nodes()]);
    const channel = createChannel({ address: server.address });
    const health = createClient(Health, channel);
    expect((await health.check({})).status).toBe(1);
    expect((await health.check({ service: NodeService.typeName })).status).toBe(1);
    expect((await faultOf(health.check({ service: "no.such" }))).reason).toBe("NOT_FOUND");
    channel.close();
    await server.close(0);
  });

  test.each([ServerReflection, ServerReflectionAlpha])(
    "$typeName serves the descriptors as they were written, custom options included",
    async (reflection) => {
      const server = await start([nodes()]);
      const channel = createChannel({ address: server.address });
      async function* questions() {
        yield { messageRequest: { case: "listServices" as const, value: "" } };
        yield {
          messageRequest: { case: "fileContainingSymbol" as const, value: NodeService.typeName },
        };
        yield { messageRequest: { case: "fileByFilename" as const, value: "no/such.proto" } };
        yield {
          messageRequest: {
            case: "fileContainingExtension" as const,
            value: { containingType: "google.protobuf.MethodOptions", extensionNumber: 50600 },
          },
        };
      }
      const answers = [];
      const client = createClient(reflection as typeof ServerReflection, channel);
      for await (const { messageResponse } of client.serverReflectionInfo(questions())) {
        answers.push(messageResponse);
      }
      const [listed, found, missing, extension] = answers;
      if (listed?.case !== "listServicesResponse") throw new Error("no list");
      expect(listed.value.service.map((one) => one.name)).toContain(NodeService.typeName);
      if (found?.case !== "fileDescriptorResponse") throw new Error("no file");
      const [file, ...dependencies] = found.value.fileDescriptorProto.map((bytes) =>
        fromBinary(FileDescriptorProtoSchema, bytes),
      );
      expect(file?.name).toBe("fastgpu/scheduler/v1/node_service.proto");
      expect(dependencies.map((one) => one.name)).toContain("fastgpu/options/v1/options.proto");
      const options = file?.service[0]?.method[0]?.options;
      expect(options?.$unknown?.map((unknown) => unknown.no)).toEqual([50600]);
      expect(missing).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
      expect(extension?.case).toBe("fileDescriptorResponse");
      channel.close();
      await server.close(0);
    },
  );
});

describe("draining", () => {
  test("ends streams with DRAINING, lets calls finish, refuses new ones, then closes", async () => {
    const entered = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const streamStopped = Promise.withResolvers<StopReason | undefined>();
    const server = await start([
      nodes(async () => {
        entered.resolve();
        await finish.promise;
      }),
      watching(async function* (context) {
        yield {};
        await aborted(context.signal);
        streamStopped.resolve(stopReason(context.signal));
      }),
    ]);
    const channel = createChannel({ address: server.address, token: userToken() });
    const listing = createClient(NodeService, channel).listNodes({});
    const watched = Promise.withResolvers<void>();
    const watch = faultOf(
      readAll(
        createClient(TaskService, channel).watchTask({ name: "projects/proj-a/tasks/t" }),
        watched.resolve,
      ),
    );
    await Promise.all([entered.promise, watched.promise]);
    const closed = server.close(60_000);
    const fault = await watch;
    expect(fault).toMatchObject({ reason: "DRAINING", code: "UNAVAILABLE" });
    expect(fault.retryAfterMs).toBeGreaterThan(0);
    expect(await streamStopped.promise).toBe("shutdown");
    finish.resolve();
    expect((await listing).nextPageToken).toBe("listed");
    await closed;
    channel.close();
  });

  test("breaks off what takes longer than its grace time", async () => {
    const stopped = Promise.withResolvers<StopReason | undefined>();
    const entered = Promise.withResolvers<void>();
    const server = await start([
      nodes(async (context) => {
        entered.resolve();
        await aborted(context.signal);
        stopped.resolve(stopReason(context.signal));
        await new Promise(() => undefined);
      }),
    ]);
    const channel = createChannel({ address: server.address, token: userToken() });
    const call = faultOf(createClient(NodeService, channel).listNodes({}, { retry: false }));
    await entered.promise;
    await server.close(10);
    expect((await call).reason).toBe("DRAINING");
    expect(await stopped.promise).toBe("shutdown");
    channel.close();
  });

  test("follows the stop signal", async () => {
    const stop = new AbortController();
    const server = await start([nodes()], { stop: stop.signal, drainMs: 0 });
    stop.abort();
    await server.closed;
  });

  test("is survived by a client that resumes elsewhere at the same address", async () => {
    const path = join(directory, "again.sock");
    const first = await start([nodes()], { listen: { path } });
    const channel = createChannel({ address: first.address, token: userToken() });
    const client = createClient(NodeService, channel);
    await client.listNodes({});
    await first.close(0);
    const second = await start([nodes()], { listen: { path } });
    expect((await client.listNodes({})).nextPageToken).toBe("listed");
    channel.close();
    await second.close(0);
  });
});

test("an overload is refused at once, and those let in are served", async () => {
  const finish = Promise.withResolvers<void>();
  const full = Promise.withResolvers<void>();
  let inside = 0;
  const server = await start(
    [
      nodes(async () => {
        inside += 1;
        if (inside === 4) full.resolve();
        await finish.promise;
      }),
    ],
    { maxOpenCalls: 4 },
  );
  const channel = createChannel({ address: server.address, token: userToken() });
  const client = createClient(NodeService, channel);
  const served = Array.from({ length: 4 }, () => client.listNodes({}));
  await full.promise;
  const fault = await faultOf(client.listNodes({}, { retry: false }));
  expect(fault.reason).toBe("UNAVAILABLE");
  expect(fault.retryAfterMs).toBeGreaterThan(0);
  finish.resolve();
  expect(await Promise.all(served)).toHaveLength(4);
  expect((await client.listNodes({})).nextPageToken).toBe("listed");
  channel.close();
  await server.close(0);
});

describe("a token", () => {
  test("that ends closes the stream opened with it, to be resumed with another", async () => {
    const server = await start([
      watching(async function* (context) {
        yield {};
        await aborted(context.signal);
      }),
    ]);
    const channel = createChannel({ address: server.address, token: userToken(1_000) });
    const stream = createClient(TaskService, channel).watchTask({
      name: "projects/proj-a/tasks/t",
    });
    const fault = await faultOf(readAll(stream, () => undefined));
    expect(fault).toMatchObject({ reason: "UNAVAILABLE", retryAfterMs: 0 });
    expect(fault.hint).toContain("new token");
    channel.close();
    await server.close(0);
  });
});

describe("a call made within another", () => {
  test("inherits deadline, cancellation, request id, trace and the caller's name", async () => {
    const inner = Promise.withResolvers<CallContext>();
    const stopped = Promise.withResolvers<StopReason | undefined>();
    const back = await start([
      service(EventLogService, {
        async listEvents(_, context) {
          inner.resolve(context);
          await aborted(context.signal);
          stopped.resolve(stopReason(context.signal));
          return {};
        },
      }),
    ]);
    const backChannel = createChannel({
      address: back.address,
      token: (request) => authority.serviceToken("scheduler", request),
    });
    const outer = Promise.withResolvers<CallContext>();
    const front = await start([
      nodes(async (context) => {
        outer.resolve(context);
        await createClient(EventLogService, backChannel).listEvents({}, { parent: context });
      }),
    ]);
    const channel = createChannel({ address: front.address, token: userToken() });
    const cancel = new AbortController();
    const call = faultOf(
      createClient(NodeService, channel).listNodes({}, { timeoutMs: 9_000, signal: cancel.signal }),
    );
    const [first, second] = await Promise.all([outer.promise, inner.promise]);
    expect(second.requestId).toBe(first.requestId);
    expect(second.traceparent.split("-")[1]).toBe(first.traceparent.split("-")[1]);
    expect(second.principal).toMatchObject({ id: "service:scheduler", onBehalfOf: "key-a" });
    // The time left travels, so a slow way is added; a deadline of its own would come 51 s later.
    expect(second.deadlineMs).toBeLessThan((first.deadlineMs ?? 0) + 25_000);
    cancel.abort();
    expect((await call).reason).toBe("CANCELLED");
    expect(await stopped.promise).toBe("caller");
    channel.close();
    backChannel.close();
    await Promise.all([front.close(0), back.close(0)]);
  });
});

describe("TLS", () => {
  test("with client certificates lets in who shows one, and nobody else", async () => {
    const tls = createTestCertificate();
    const server = await start([nodes()], { tls: { ...tls, clientCaPem: tls.certPem } });
    const address = `localhost:${server.port}`;
    const known = createChannel({
      address,
      tls: { caPem: tls.certPem, ...tls },
      token: userToken(),
    });
    expect((await createClient(NodeService, known).listNodes({})).nextPageToken).toBe("listed");
    const stranger = createChannel({ address, tls: { caPem: tls.certPem }, token: userToken() });
    const call = createClient(NodeService, stranger).listNodes(
      {},
      { retry: false, waitForReady: false },
    );
    expect((await faultOf(call)).reason).toBe("UNAVAILABLE");
    known.close();
    stranger.close();
    await server.close(0);
  });
});

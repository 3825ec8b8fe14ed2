import { connect as connectHttp2 } from "node:http2";
import { gzipSync } from "node:zlib";
import { createGrpcWebTransport, createConnectTransport } from "@connectrpc/connect-node";
import { Code, ConnectError, createClient as createConnectClient } from "@connectrpc/connect";
import { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import type { WatchTaskResponse } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { ErrorInfoSchema } from "@fastgpu/contracts/google/rpc/error_details_pb";
import { Health } from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { ServerReflection } from "@fastgpu/contracts/grpc/reflection/v1/reflection_pb";
import { Fault } from "@fastgpu/domain/fault";
import { createChannel } from "@fastgpu/rpc/channel";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { goodKey, startAll } from "./harness.ts";

type All = Awaited<ReturnType<typeof startAll>>;

let all: All;
let channel: Channel;

beforeAll(async () => {
  all = await startAll();
  channel = createChannel({ address: all.address, token: () => Promise.resolve(goodKey) });
});

afterAll(async () => {
  channel.close();
  await all[Symbol.asyncDispose]();
});

beforeEach(() => {
  all.seen.stopped = Promise.withResolvers();
});

/** An error as any client can see it. */
interface SeenError {
  readonly code: string;
  readonly message: string;
  readonly reason: string | undefined;
  readonly hint: string | undefined;
  readonly fields: readonly string[];
}

const connectCodes: Readonly<Record<string, string>> = {
  invalid_argument: "INVALID_ARGUMENT",
  unauthenticated: "UNAUTHENTICATED",
  permission_denied: "PERMISSION_DENIED",
  not_found: "NOT_FOUND",
  internal: "INTERNAL",
  unavailable: "UNAVAILABLE",
};

interface Detail {
  readonly type: string;
  readonly debug: {
    readonly reason?: string;
    readonly metadata?: Readonly<Record<string, string>>;
    readonly fieldViolations?: readonly { readonly field: string }[];
  };
}

function postJson(path: string, body: unknown, headers: Record<string, string> = {}) {
  return fetch(`${all.url}/${path}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${goodKey}`,
      ...headers,
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

async function jsonError(response: Response): Promise<SeenError> {
  const body = (await response.json()) as {
    readonly code: string;
    readonly message: string;
    readonly details?: readonly Detail[];
  };
  const detail = (type: string) =>
    body.details?.find((candidate) => candidate.type === `google.rpc.${type}`)?.debug;
  return {
    code: connectCodes[body.code] ?? body.code,
    message: body.message.replaceAll(/request [\w-]+$/g, "request ID"),
    reason: detail("ErrorInfo")?.reason,
    hint: detail("ErrorInfo")?.metadata?.["hint"],
    fields: detail("BadRequest")?.fieldViolations?.map((violation) => violation.field) ?? [],
  };
}

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Fault) return outcome;
  throw new Error(`expected a fault, got ${String(outcome)}`);
}

async function grpcError(call: Promise<unknown>): Promise<SeenError> {
  const fault = await faultOf(call);
  return {
    code: fault.code,
    message: fault.message.replaceAll(/request [\w-]+$/g, "request ID"),
    reason: fault.reason,
    hint: fault.hint,
    fields: fault.violations.map((violation) => violation.field),
  };
}

describe("the same error by gRPC and by JSON", () => {
  const getTask = "fastgpu.scheduler.v1.TaskService/GetTask";
  const cases = [
    { title: "a missing task", name: "projects/proj-a/tasks/none", reason: "NOT_FOUND" },
    { title: "a fault of ours", name: "projects/proj-a/tasks/bug", reason: "INTERNAL" },
    { title: "a malformed name", name: "task one", reason: "INVALID_FIELD" },
    { title: "a foreign project", name: "projects/proj-b/tasks/x", reason: "PERMISSION_DENIED" },
    { title: "an unknown project", name: "projects/proj-x/tasks/x", reason: "PERMISSION_DENIED" },
  ];
  test.each(cases)("$title", async ({ name, reason }) => {
    const byJson = await jsonError(await postJson(getTask, { name }));
    const byGrpc = await grpcError(createClient(TaskService, channel).getTask({ name }));
    expect(byJson).toEqual(byGrpc);
    expect(byGrpc.reason).toBe(reason);
  });

  test.each([
    { title: "no credential", authorization: undefined },
    { title: "an unknown key", authorization: "Bearer fgpu_test_0002_wrong_crc" },
    { title: "a forged token", authorization: "Bearer eyJhbGciOiJFZERTQSJ9.e30.AAAA" },
    { title: "another scheme", authorization: "Basic dXNlcjpwYXNz" },
  ])("$title", async ({ authorization }) => {
    const name = "projects/proj-a/tasks/x";
    const response = await fetch(`${all.url}/${getTask}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(authorization === undefined ? {} : { authorization }),
      },
      body: JSON.stringify({ name }),
    });
    expect(response.status).toBe(401);
    const byJson = await jsonError(response);
    const bare = createChannel({ address: all.address });
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const byGrpc = await grpcError(createClient(TaskService, bare).getTask({ name }, { headers }));
    bare.close();
    expect(byJson).toEqual(byGrpc);
    expect(byGrpc.reason).toBe("UNAUTHENTICATED");
  });

  test("a service that is away", async () => {
    const name = "organizations/org-a/balance";
    const path = "fastgpu.billing.v1.BillingService/GetBalance";
    const byJson = await jsonError(await postJson(path, { name }));
    const call = createClient(BillingService, channel).getBalance({ name }, { retry: false });
    const byGrpc = await grpcError(call);
    expect(byJson).toEqual(byGrpc);
    expect(byGrpc).toMatchObject({ code: "UNAVAILABLE", reason: "UNAVAILABLE" });
  });
});

describe("JSON", () => {
  const createTask = "fastgpu.scheduler.v1.TaskService/CreateTask";

  test("reaches the service as its message, with a request id", async () => {
    const response = await postJson(createTask, {
      parent: "projects/proj-a",
      task: { display_name: "one", spec: { process: { command: ["true"] } } },
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      name: "projects/proj-a/tasks/task-1",
      state: "TASK_STATE_DRAFT",
    });
    expect(response.headers.get("x-request-id")).toBe(all.seen.last?.requestId);
    expect(all.seen.last?.principal).toMatchObject({ id: "key-a", org: "org-a" });
  });

  test("with an unknown field names its path and the closest field", async () => {
    const error = await jsonError(
      await postJson(createTask, {
        parent: "projects/proj-a",
        task: { spec: { process: { comand: ["true"] }, resources: { gpu: { cuont: 1 } } } },
      }),
    );
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", reason: "UNKNOWN_FIELD" });
    expect(error.fields).toEqual(["task.spec.process.comand", "task.spec.resources.gpu.cuont"]);
    expect(error.message).toContain("did you mean command?");
  });

  test("with a value of the wrong type names its path", async () => {
    const error = await jsonError(
      await postJson(createTask, {
        parent: "projects/proj-a",
        task: { spec: { resources: { gpu: { count: "many" } } } },
      }),
    );
    expect(error).toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      fields: ["task.spec.resources.gpu.count"],
    });
  });

  test("that is none is refused", async () => {
    const error = await jsonError(await postJson(createTask, "{parent:"));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
  });

  test("beyond the size limit is refused", async () => {
    const body = { parent: "projects/proj-a", requestId: "x".repeat(5 * 1024 * 1024) };
    const error = await jsonError(await postJson(createTask, body));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", reason: "LIMIT_EXCEEDED" });
  });

  test("may come zipped, and is refused alike", async () => {
    const zipped = { "content-encoding": "gzip" };
    const path = "fastgpu.scheduler.v1.TaskService/GetTask";
    const post = (bytes: Buffer) =>
      fetch(`${all.url}/${path}`, {
        method: "POST",
        headers: {
          ...zipped,
          "content-type": "application/json",
          authorization: `Bearer ${goodKey}`,
        },
        body: new Uint8Array(bytes),
      });
    const good = await post(gzipSync(JSON.stringify({ name: "projects/proj-a/tasks/x" })));
    expect(await good.json()).toEqual({ name: "projects/proj-a/tasks/x" });
    const unknown = await jsonError(await post(gzipSync(JSON.stringify({ nam: "x" }))));
    expect(unknown).toMatchObject({ reason: "UNKNOWN_FIELD", fields: ["nam"] });
    const bomb = await jsonError(await post(gzipSync(Buffer.alloc(64 * 1024 * 1024))));
    expect(bomb).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
    expect((await jsonError(await post(Buffer.from("no zip")))).reason).toBe("INVALID_FIELD");
  });

  test.each([
    ["a body of another type", { "content-type": "text/plain" }, "POST", 415],
    ["another verb", { "content-type": "application/json" }, "PUT", 405],
    [
      "a malformed timeout",
      { "content-type": "application/json", "connect-timeout-ms": "soon" },
      "POST",
      400,
    ],
  ] as const)("with %s is refused with a reason too", async (_, headers, method, status) => {
    const response = await fetch(`${all.url}/fastgpu.scheduler.v1.TaskService/GetTask`, {
      method,
      headers: { ...headers, authorization: `Bearer ${goodKey}` },
      body: "{}",
    });
    expect(response.status).toBe(status);
    expect((await jsonError(response)).reason).toBe("INVALID_FIELD");
  });

  test("of a caller's request id and trace keeps both", async () => {
    await postJson(
      "fastgpu.scheduler.v1.TaskService/GetTask",
      { name: "projects/proj-a/tasks/x" },
      {
        "x-request-id": "mine-1",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      },
    );
    expect(all.seen.last?.requestId).toBe("mine-1");
    expect(all.seen.last?.traceparent).toContain("0af7651916cd43dd8448eb211c80319c");
  });

  test("with a malformed request id gets another one", async () => {
    await postJson(
      "fastgpu.scheduler.v1.TaskService/GetTask",
      { name: "projects/proj-a/tasks/x" },
      { "x-request-id": "two words" },
    );
    expect(all.seen.last?.requestId).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("server streams", () => {
  const request = { name: "projects/proj-a/tasks/short" };
  const headers = { authorization: `Bearer ${goodKey}` };
  const collect = async (stream: AsyncIterable<WatchTaskResponse>) => {
    const revisions: bigint[] = [];
    for await (const { task } of stream) revisions.push(task?.revision ?? 0n);
    return revisions;
  };

  test("arrive by gRPC", async () => {
    const revisions = await collect(createClient(TaskService, channel).watchTask(request));
    expect(revisions).toEqual([1n, 2n]);
  });

  test.each(["1.1", "2"] as const)("arrive by Connect over HTTP/%s", async (httpVersion) => {
    const transport = createConnectTransport({
      baseUrl: all.url,
      httpVersion,
      useBinaryFormat: false,
    });
    const client = createConnectClient(TaskService, transport);
    expect(await collect(client.watchTask(request, { headers }))).toEqual([1n, 2n]);
  });

  test.each(["1.1", "2"] as const)("arrive by gRPC-Web over HTTP/%s", async (httpVersion) => {
    const transport = createGrpcWebTransport({ baseUrl: all.url, httpVersion });
    const client = createConnectClient(TaskService, transport);
    expect(await collect(client.watchTask(request, { headers }))).toEqual([1n, 2n]);
  });

  test("end with the service's error and its details over HTTP/1.1", async () => {
    const transport = createConnectTransport({ baseUrl: all.url, httpVersion: "1.1" });
    const client = createConnectClient(TaskService, transport);
    const call = collect(client.watchTask({ name: "projects/proj-a/tasks/bug" }, { headers }));
    const error = ConnectError.from(await call.catch((thrown: unknown) => thrown));
    expect(error.code).toBe(Code.Internal);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("INTERNAL");
  });

  test("with an unknown JSON field are refused with its path", async () => {
    const json = Buffer.from(JSON.stringify({ nam: "x" }));
    const envelope = Buffer.alloc(5);
    envelope.writeUInt32BE(json.length, 1);
    const response = await fetch(`${all.url}/fastgpu.scheduler.v1.TaskService/WatchTask`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/connect+json" },
      body: Buffer.concat([envelope, json]),
    });
    expect(await response.text()).toContain('"field":"nam"');
  });

  test("that a caller leaves are cancelled at the service, by gRPC", async () => {
    const stream = createClient(TaskService, channel).watchTask({
      name: "projects/proj-a/tasks/long",
    });
    for await (const _ of stream) break;
    expect(await all.seen.stopped.promise).toBe("caller");
  });

  test.each(["1.1", "2"] as const)(
    "that a caller aborts are cancelled at the service, by Connect over HTTP/%s",
    async (httpVersion) => {
      const transport = createConnectTransport({ baseUrl: all.url, httpVersion });
      const abort = new AbortController();
      const stream = createConnectClient(TaskService, transport).watchTask(
        { name: "projects/proj-a/tasks/long" },
        { headers, signal: abort.signal },
      );
      const reading = (async () => {
        for await (const _ of stream) abort.abort();
      })();
      await expect(reading).rejects.toThrow("canceled");
      expect(await all.seen.stopped.promise).toBe("caller");
    },
  );
});

describe("gRPC passes through", () => {
  test("deadlines", async () => {
    const client = createClient(TaskService, channel);
    const name = "projects/proj-a/tasks/slow";
    const before = all.seen.last;
    // A busy machine may need longer than that to come to the handler.
    for (let timeoutMs = 1_000; all.seen.last === before; timeoutMs *= 4) {
      const call = client.getTask({ name }, { timeoutMs });
      expect((await faultOf(call)).reason).toBe("DEADLINE_EXCEEDED");
    }
    expect(await all.seen.stopped.promise).toBe("deadline");
  });

  test("many megabytes both ways, in order and under flow control", async () => {
    const storage = createClient(ArtifactService, channel);
    async function* upload() {
      yield {
        part: {
          case: "header" as const,
          value: {
            parent: "projects/proj-a",
            displayName: "file",
            uploadId: "0197f3a0-0000-7000-8000-000000000001",
          },
        },
      };
      for (let i = 0; i < 64; i += 1) {
        yield { part: { case: "data" as const, value: new Uint8Array(256 * 1024) } };
      }
    }
    expect((await storage.uploadArtifact(upload())).sizeBytes).toBe(16n * 1024n * 1024n);
    const order: number[] = [];
    for await (const { data } of storage.downloadArtifact({
      name: "projects/proj-a/artifacts/a",
    })) {
      expect(data).toHaveLength(256 * 1024);
      order.push(data[0] ?? -1);
    }
    expect(order).toEqual(Array.from({ length: 64 }, (_, index) => index));
  });

  test("64 calls at once on one connection", async () => {
    const client = createClient(TaskService, channel);
    const names = Array.from({ length: 64 }, (_, index) => `projects/proj-a/tasks/${index}`);
    const tasks = await Promise.all(names.map((name) => client.getTask({ name })));
    expect(tasks.map((task) => task.name)).toEqual(names);
  });
});

describe("identity", () => {
  test("a key is exchanged once for many calls", async () => {
    const client = createClient(TaskService, channel);
    await client.getTask({ name: "projects/proj-a/tasks/x" });
    const before = all.seen.exchanges;
    for (let i = 0; i < 20; i += 1) await client.getTask({ name: "projects/proj-a/tasks/x" });
    expect(all.seen.exchanges).toBe(before);
  });

  test("a bad key asks auth once for many calls", async () => {
    const bad = { authorization: "Bearer fgpu_test_0003_guess_crc" };
    const before = all.seen.exchanges;
    const name = "projects/proj-a/tasks/x";
    for (let i = 0; i < 10; i += 1) {
      await postJson("fastgpu.scheduler.v1.TaskService/GetTask", { name }, bad);
    }
    expect(all.seen.exchanges).toBe(before + 1);
  });

  test("a token that the caller exchanged itself is taken", async () => {
    const token = await all.token();
    const response = await postJson(
      "fastgpu.scheduler.v1.TaskService/GetTask",
      { name: "projects/proj-a/tasks/x" },
      { authorization: `Bearer ${token}` },
    );
    expect(response.status).toBe(200);
  });

  test("a tenant beyond its allowance waits, by both protocols alike", async () => {
    await using small = await startAll({ rateLimit: { callsPerSecond: 0.001, burst: 2 } });
    const limited = createChannel({ address: small.address, token: async () => goodKey });
    const client = createClient(TaskService, limited);
    const name = "projects/proj-a/tasks/x";
    await client.getTask({ name });
    await client.getTask({ name });
    const fault = await faultOf(client.getTask({ name }));
    expect(fault.reason).toBe("RATE_LIMITED");
    expect(fault.retryAfterMs).toBeGreaterThan(0);
    const response = await fetch(`${small.url}/fastgpu.scheduler.v1.TaskService/GetTask`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${goodKey}` },
      body: JSON.stringify({ name }),
    });
    expect(response.status).toBe(429);
    expect((await jsonError(response)).reason).toBe("RATE_LIMITED");
    limited.close();
  });
});

describe("what is not passed on", () => {
  test.each([
    "fastgpu.billing.v1.HoldService/ListOpenHolds",
    "fastgpu.events.v1.EventLogService/ListEvents",
    "fastgpu.worker.v1.WorkerSessionService/Connect",
    "fastgpu.storage.v1.AttemptStorageService/PutManifest",
    "fastgpu.auth.v1.ProjectService/ResolveProject",
    "no.such.Service/Method",
  ])("%s", async (path) => {
    expect((await postJson(path, {})).status).toBe(404);
    expect(await grpcStatusOf(path)).toBe("12");
  });
});

/** The grpc-status of an empty gRPC call, by bare HTTP/2. */
function grpcStatusOf(path: string): Promise<unknown> {
  const session = connectHttp2(all.url);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${path}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  return new Promise((resolve, reject) => {
    stream.once("response", (headers) => {
      session.close();
      resolve(headers["grpc-status"]);
    });
    stream.once("error", reject);
    stream.end(Buffer.alloc(5));
  });
}

describe("the gateway itself", () => {
  test("answers health over HTTP and gRPC, and says where things are", async () => {
    expect(await (await fetch(`${all.url}/healthz`)).text()).toBe("ok\n");
    expect((await createClient(Health, channel).check({})).status).toBe(1);
    const page = await fetch(all.url);
    expect(page.headers.get("content-type")).toContain("text/html");
  });

  test("answers reflection with custom options", async () => {
    async function* ask() {
      yield {
        messageRequest: {
          case: "fileContainingSymbol" as const,
          value: "fastgpu.scheduler.v1.TaskService.GetTask",
        },
      };
    }
    const files: Uint8Array[] = [];
    for await (const { messageResponse } of createClient(
      ServerReflection,
      channel,
    ).serverReflectionInfo(ask())) {
      if (messageResponse.case !== "fileDescriptorResponse") continue;
      files.push(...messageResponse.value.fileDescriptorProto);
    }
    const text = files.map((file) => Buffer.from(file).toString("latin1")).join("");
    expect(text).toContain("fastgpu/scheduler/v1/task_service.proto");
    expect(text).toContain("tasks.create");
  });

  test("ends open streams at a drain with DRAINING, by gRPC and by Connect", async () => {
    const own = await startAll();
    const ownChannel = createChannel({ address: own.address, token: async () => goodKey });
    const started = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    const watch = async (stream: AsyncIterable<unknown>, ready: PromiseWithResolvers<void>) => {
      for await (const _ of stream) ready.resolve();
    };
    const name = "projects/proj-a/tasks/long";
    const byGrpc = faultOf(
      watch(createClient(TaskService, ownChannel).watchTask({ name }), started[0]),
    );
    const transport = createConnectTransport({ baseUrl: own.url, httpVersion: "1.1" });
    const byConnect = watch(
      createConnectClient(TaskService, transport).watchTask(
        { name },
        { headers: { authorization: `Bearer ${goodKey}` } },
      ),
      started[1],
    ).catch((error: unknown) => ConnectError.from(error));
    await Promise.all(started.map((one) => one.promise));
    const closed = own.gateway[Symbol.asyncDispose]();
    const fault = await byGrpc;
    expect(fault.reason).toBe("DRAINING");
    expect(fault.retryAfterMs).toBeGreaterThan(0);
    const error = await byConnect;
    expect(error?.findDetails(ErrorInfoSchema)[0]?.reason).toBe("DRAINING");
    await closed;
    ownChannel.close();
    await own.server.close(0);
  });
});

import { setImmediate as nextTurn } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import {
  ConnectRequestSchema,
  WorkerSessionService,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aborted, stopReason } from "@fastgpu/lifecycle/signals";
import type { StopReason } from "@fastgpu/lifecycle/signals";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createChannel } from "../src/channel.ts";
import type { Channel } from "../src/channel.ts";
import { createClient } from "../src/client.ts";
import type { Client } from "../src/client.ts";
import type { CallContext } from "../src/context.ts";
import { service } from "../src/handlers.ts";
import type { Handlers } from "../src/handlers.ts";
import type { RunningServer } from "../src/server.ts";
import { requestIdOf } from "../src/status.ts";
import { createAuthority, serve } from "./harness.ts";
import type { Authority } from "./harness.ts";

const unused = (): never => {
  throw new Error("a secret of ours");
};

let stopped = Promise.withResolvers<StopReason | undefined>();
let seen: CallContext | undefined;
let received: string[] = [];
let attempts = 0;
let observe: (context: CallContext) => void = () => undefined;

/** Waits for the end of the call and tells the test why it came. */
async function untilStopped(context: CallContext): Promise<void> {
  await aborted(context.signal);
  stopped.resolve(stopReason(context.signal));
}

const tasks: Handlers<typeof TaskService> = {
  async createTask(request, context) {
    seen = context;
    return { name: `${request.parent}/tasks/task-1`, state: TaskState.DRAFT };
  },
  async getTask(request, context) {
    observe(context);
    if (request.name.endsWith("slow")) await untilStopped(context);
    if (request.name.endsWith("bug")) unused();
    if (request.name.endsWith("none")) throw Fault.notFound(request.name, "list the tasks");
    if (request.name.endsWith("flaky") && (attempts += 1) < 3) {
      throw new Fault("UNAVAILABLE", "not yet", { retryAfterMs: 1 });
    }
    return { name: request.name };
  },
  async *watchTask(request, context) {
    for (let revision = request.afterRevision + 1n; revision <= 3n; revision += 1n) {
      yield { task: { name: request.name, revision } };
    }
    await untilStopped(context);
  },
  async *readLogs(request) {
    yield { records: [{ cursor: request.name }] };
    unused();
  },
  submitTask: unused,
  runTask: unused,
  batchRunTasks: unused,
  listTasks: unused,
  cancelTask: unused,
  listAttempts: unused,
  explainTask: unused,
  quoteTask: unused,
};

const artifacts: Handlers<typeof ArtifactService> = {
  async uploadArtifact(requests) {
    let size = 0n;
    for await (const { part } of requests) {
      received.push(part.case ?? "");
      if (part.case === "data") size += BigInt(part.value.length);
    }
    return { sizeBytes: size };
  },
  getUpload: unused,
  getArtifact: unused,
  listArtifacts: unused,
  downloadArtifact: unused,
  getManifest: unused,
};

const sessions: Handlers<typeof WorkerSessionService> = {
  async *connect(requests) {
    for await (const { message } of requests) {
      if (message.case === "draining") return;
      if (message.case === "heartbeat") {
        const { sentAtMs } = message.value;
        yield { message: { case: "heartbeatAck", value: { sentAtMs } } };
      }
    }
  },
  serveLogs: unused,
};

let authority: Authority;
let server: RunningServer;
let channel: Channel;
let client: Client<typeof TaskService>;

beforeAll(async () => {
  authority = await createAuthority();
  server = await serve(
    [
      service(TaskService, tasks),
      service(ArtifactService, artifacts),
      service(WorkerSessionService, sessions),
    ],
    authority.authenticator,
  );
  channel = createChannel({
    address: server.address,
    token: () => authority.token({ sub: "key-a", org: "org-a", role: "org_admin" }),
  });
  client = createClient(TaskService, channel);
});

afterAll(async () => {
  channel.close();
  await server.close(0);
});

beforeEach(() => {
  stopped = Promise.withResolvers();
  received = [];
  attempts = 0;
  observe = () => undefined;
});

/** The fault with which a call fails. */
async function faultOf(call: Promise<unknown>): Promise<Fault> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Fault) return outcome;
  throw new Error(`expected a fault, got ${String(outcome)}`);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("a unary call", () => {
  test("reaches its typed handler with principal, scope and trace", async () => {
    const task = await client.createTask({
      parent: "projects/proj-a",
      task: {
        displayName: "one",
        spec: { runtime: { case: "process", value: { command: ["true"] } } },
      },
    });
    expect(task.name).toBe("projects/proj-a/tasks/task-1");
    expect(task.state).toBe(TaskState.DRAFT);
    expect(seen?.principal).toMatchObject({ kind: "user", id: "key-a", role: "org_admin" });
    expect(seen?.scope).toEqual({ org: "org-a", project: "proj-a" });
    expect(seen?.method).toBe("fastgpu.scheduler.v1.TaskService/CreateTask");
    expect(seen?.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });

  test("carries a fault with reason, hint, metadata and request id", async () => {
    const fault = await faultOf(client.getTask({ name: "projects/proj-a/tasks/none" }));
    expect(fault).toMatchObject({ reason: "NOT_FOUND", hint: "list the tasks" });
    expect(fault.metadata["resource"]).toBe("projects/proj-a/tasks/none");
    expect(requestIdOf(fault)).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("tells nothing of an unknown error but the request id", async () => {
    const fault = await faultOf(
      client.getTask(
        { name: "projects/proj-a/tasks/bug" },
        { headers: { "x-request-id": "my-request" } },
      ),
    );
    expect(fault).toMatchObject({ reason: "INTERNAL", hint: undefined });
    expect(fault.message).toBe("internal error; quote request my-request");
    expect(fault.metadata).toEqual({ request_id: "my-request" });
  });

  test("is refused with the path of every broken field", async () => {
    const fault = await faultOf(
      client.createTask({ parent: "projects/proj-a", requestId: "no uuid" }),
    );
    expect(fault.reason).toBe("INVALID_FIELD");
    expect(fault.violations.map((violation) => violation.field)).toEqual(["task", "request_id"]);
  });

  test("is refused where its message is larger than the limit", async () => {
    const fault = await faultOf(
      client.createTask({
        parent: "projects/proj-a",
        task: { displayName: "x".repeat(5 * 1024 * 1024) },
      }),
    );
    expect(fault).toMatchObject({ reason: "LIMIT_EXCEEDED", code: "INVALID_ARGUMENT" });
  });

  test("ends at its deadline, and the handler's signal says so", async () => {
    let entered = false;
    observe = () => {
      entered = true;
    };
    // A busy machine may need longer than that to come to the handler.
    for (let timeoutMs = 1_000; !entered; timeoutMs *= 4) {
      const fault = await faultOf(
        client.getTask({ name: "projects/proj-a/tasks/slow" }, { timeoutMs }),
      );
      expect(fault.reason).toBe("DEADLINE_EXCEEDED");
    }
    expect(await stopped.promise).toBe("deadline");
  });

  test("is cancelled by the caller's signal, and the handler's signal says so", async () => {
    const cancel = new AbortController();
    observe = () => cancel.abort();
    const call = faultOf(
      client.getTask({ name: "projects/proj-a/tasks/slow" }, { signal: cancel.signal }),
    );
    expect((await call).reason).toBe("CANCELLED");
    expect(await stopped.promise).toBe("caller");
  });

  test("that is cancelled at any moment leaves no handler behind that does not know", async () => {
    const told: Promise<StopReason | undefined>[] = [];
    observe = (context) => {
      told.push(aborted(context.signal).then(() => stopReason(context.signal)));
    };
    const name = "projects/proj-a/tasks/slow";
    for (let turns = 0; turns < 300; turns += 1) {
      const cancel = new AbortController();
      const call = faultOf(client.getTask({ name }, { signal: cancel.signal }));
      for (let turn = 0; turn < turns % 12; turn += 1) await nextTurn();
      cancel.abort();
      expect((await call).reason).toBe("CANCELLED");
    }
    // A call of the same connection that comes back: everything before it has been looked at.
    observe = () => undefined;
    await client.getTask({ name: "projects/proj-a/tasks/last" });
    expect(new Set(await Promise.all(told)).isSubsetOf(new Set(["caller"]))).toBe(true);
  });

  test("is repeated on UNAVAILABLE where that is safe", async () => {
    const task = await client.getTask({ name: "projects/proj-a/tasks/flaky" });
    expect(task.name).toBe("projects/proj-a/tasks/flaky");
    expect(attempts).toBe(3);
  });

  test("is not repeated where it was told not to", async () => {
    const call = client.getTask({ name: "projects/proj-a/tasks/flaky" }, { retry: false });
    expect(await faultOf(call)).toMatchObject({ reason: "UNAVAILABLE", retryAfterMs: 1 });
    expect(attempts).toBe(1);
  });
});

describe("a response stream", () => {
  test("resumes where it was asked to and is cancelled by leaving the loop", async () => {
    const revisions: bigint[] = [];
    const name = "projects/proj-a/tasks/task-1";
    for await (const { task } of client.watchTask({ name, afterRevision: 1n })) {
      revisions.push(task?.revision ?? 0n);
      if (revisions.length === 2) break;
    }
    expect(revisions).toEqual([2n, 3n]);
    expect(await stopped.promise).toBe("caller");
  });

  test("ends with the fault of its handler after what came before", async () => {
    const read: unknown[] = [];
    const call = (async () => {
      for await (const item of client.readLogs({ name: "projects/proj-a/tasks/t" }))
        read.push(item);
    })();
    expect((await faultOf(call)).reason).toBe("INTERNAL");
    expect(read).toHaveLength(1);
  });

  test("is refused like any call", async () => {
    const call = collect(client.watchTask({ name: "projects/proj-b/tasks/t" }));
    expect((await faultOf(call)).reason).toBe("PERMISSION_DENIED");
  });
});

describe("a request stream", () => {
  const header = {
    parent: "projects/proj-a",
    displayName: "file",
    uploadId: "0197f3a0-0000-7000-8000-000000000001",
  };

  async function* upload(parent: string, second?: string) {
    yield { part: { case: "header" as const, value: { ...header, parent } } };
    yield { part: { case: "data" as const, value: new Uint8Array(70_000) } };
    if (second !== undefined) {
      yield { part: { case: "header" as const, value: { ...header, parent: second } } };
    }
    yield { part: { case: "data" as const, value: new Uint8Array(30_000) } };
  }

  test("arrives whole and in order", async () => {
    const storage = createClient(ArtifactService, channel);
    const artifact = await storage.uploadArtifact(upload("projects/proj-a"));
    expect(artifact.sizeBytes).toBe(100_000n);
    expect(received).toEqual(["header", "data", "data"]);
  });

  test("into a foreign project never reaches the handler", async () => {
    const storage = createClient(ArtifactService, channel);
    const fault = await faultOf(storage.uploadArtifact(upload("projects/proj-b")));
    expect(fault.reason).toBe("PERMISSION_DENIED");
    expect(received).toEqual([]);
  });

  test("cannot turn to a foreign project later", async () => {
    const storage = createClient(ArtifactService, channel);
    const call = storage.uploadArtifact(upload("projects/proj-a", "projects/proj-b"));
    expect((await faultOf(call)).reason).toBe("PERMISSION_DENIED");
    expect(received).toEqual(["header", "data"]);
  });

  test("that its caller breaks off never looks complete", async () => {
    const storage = createClient(ArtifactService, channel);
    async function* broken() {
      yield* upload("projects/proj-a");
      throw new Fault("CHECKSUM_MISMATCH", "the file changed");
    }
    expect((await faultOf(storage.uploadArtifact(broken()))).reason).toBe("CHECKSUM_MISMATCH");
  });
});

describe("a bidirectional stream", () => {
  test("answers while it reads, and ends when the server does", async () => {
    const worker = createChannel({
      address: server.address,
      token: () => authority.token({ sub: "node-1", role: "worker" }),
    });
    const session = createClient(WorkerSessionService, worker);
    const next = { send: Promise.withResolvers<bigint | undefined>() };
    async function* requests(): AsyncGenerator<MessageInitShape<typeof ConnectRequestSchema>> {
      for (;;) {
        const sentAtMs = await next.send.promise;
        next.send = Promise.withResolvers();
        if (sentAtMs === undefined) {
          yield { message: { case: "draining", value: {} } };
          // The server's end must not wait for ours.
          await new Promise(() => undefined);
        } else yield { message: { case: "heartbeat", value: { sentAtMs } } };
      }
    }
    const acks: bigint[] = [];
    next.send.resolve(1n);
    for await (const { message } of session.connect(requests())) {
      if (message.case !== "heartbeatAck") continue;
      acks.push(message.value.sentAtMs);
      next.send.resolve(acks.length < 3 ? BigInt(acks.length + 1) : undefined);
    }
    expect(acks).toEqual([1n, 2n, 3n]);
    worker.close();
  });
});

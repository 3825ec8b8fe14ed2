import { createServer as createHttp2, connect as connectHttp2 } from "node:http2";
import type { Http2Server, ServerHttp2Stream } from "node:http2";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { createConnectTransport } from "@connectrpc/connect-node";
import { Code, ConnectError, createClient as createConnectClient } from "@connectrpc/connect";
import { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ErrorInfoSchema } from "@fastgpu/contracts/google/rpc/error_details_pb";
import { Fault } from "@fastgpu/domain/fault";
import { freePort } from "@fastgpu/lifecycle/child";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { describe, expect, test } from "vitest";
import { goodKey, startAll } from "./harness.ts";

/** A service whose streams meet the given end. */
async function faulty(onStream: (stream: ServerHttp2Stream) => void) {
  const server: Http2Server = createHttp2();
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => undefined);
    onStream(stream);
  });
  server.on("session", (session) => session.on("error", () => undefined));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]: () => void server.close(),
  };
}

/** The same call by gRPC and by Connect, as reasons. */
async function reasonsOf(all: Awaited<ReturnType<typeof startAll>>): Promise<string[]> {
  const channel = createChannel({ address: all.address, token: async () => goodKey });
  const request = { name: "organizations/org-a/balance" };
  const byGrpc = await createClient(BillingService, channel)
    .getBalance(request, { retry: false })
    .then(
      () => "no fault",
      (error: unknown) => Fault.from(error).reason,
    );
  channel.close();
  const transport = createConnectTransport({ baseUrl: all.url, httpVersion: "1.1" });
  const byConnect = await createConnectClient(BillingService, transport)
    .getBalance(request, { headers: { authorization: `Bearer ${goodKey}` } })
    .then(
      () => "no fault",
      (error: unknown) =>
        ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? "bare",
    );
  return [byGrpc, byConnect];
}

describe("a service that breaks under a call is UNAVAILABLE by every protocol", () => {
  const ends: readonly [string, (stream: ServerHttp2Stream) => void][] = [
    ["before it answers", (stream) => stream.session?.socket.destroy()],
    [
      "between headers and trailers",
      (stream) => {
        stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.write(Buffer.alloc(5));
        setImmediate(() => stream.session?.destroy());
      },
    ],
  ];
  test.each(ends)("%s", async (_, end) => {
    using broken = await faulty(end);
    const base = await startAll();
    const { address } = base.server;
    await using all = await startAll({
      upstreams: {
        auth: address,
        scheduler: address,
        billing: broken.address,
        monitor: address,
        storage: address,
      },
    });
    expect(await reasonsOf(all)).toEqual(["UNAVAILABLE", "UNAVAILABLE"]);
    await base[Symbol.asyncDispose]();
  });
});

test("a service that was restarted is found again by the next call", async () => {
  let calls = 0;
  const port = await freePort();
  const serve = () =>
    new Promise<Http2Server>((resolve) => {
      const server = createHttp2();
      server.on("stream", (stream: ServerHttp2Stream) => {
        calls += 1;
        stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(Buffer.alloc(5));
      });
      server.on("session", (session) => session.once("error", () => undefined));
      server.listen(port, "127.0.0.1", () => resolve(server));
    });
  const base = await startAll();
  const { address } = base.server;
  await using all = await startAll({
    upstreams: {
      auth: address,
      scheduler: address,
      billing: `127.0.0.1:${port}`,
      monitor: address,
      storage: address,
    },
  });
  for (let round = 1; round <= 3; round += 1) {
    const server = await serve();
    const sessions: { destroy(): void }[] = [];
    server.on("session", (session) => sessions.push(session));
    expect(await reasonsOf(all)).toEqual(["no fault", "no fault"]);
    expect(calls).toBe(2 * round);
    for (const session of sessions) session.destroy();
    await new Promise((resolve) => server.close(resolve));
    expect(await reasonsOf(all)).toEqual(["UNAVAILABLE", "UNAVAILABLE"]);
  }
  await base[Symbol.asyncDispose]();
});

describe("garbage", () => {
  test("of every kind ends its own connection and nothing else", async () => {
    await using all = await startAll();
    const { port } = all.gateway;
    const garbage = [
      Buffer.from("\x16\x03\x01\x02\x00\x01\x00"),
      Buffer.from("GET / HTTP/9.9\r\n\r\n"),
      Buffer.from(`GET / HTTP/1.1\r\nx: ${"y".repeat(100_000)}\r\n\r\n`),
      Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.alloc(64, 0xff)]),
      Buffer.from("PRI * HTTP/1.1\r\n\r\n"),
      Buffer.from("POST /fastgpu.scheduler.v1.TaskService/GetTask HTTP/1.1\r\n\r\n"),
    ];
    for (const bytes of garbage) {
      await new Promise<void>((resolve) => {
        const socket = connect(port, "127.0.0.1", () => socket.end(bytes));
        socket.resume();
        socket.once("close", () => resolve());
        socket.once("error", () => undefined);
      });
    }
    expect((await fetch(`${all.url}/healthz`)).status).toBe(200);
  });

  test("inside a gRPC call is refused by the service with details", async () => {
    await using all = await startAll();
    const channel = createChannel({ address: all.address, token: async () => goodKey });
    const session = connectHttp2(all.url);
    const stream = session.request({
      ":method": "POST",
      ":path": "/fastgpu.scheduler.v1.TaskService/GetTask",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: `Bearer ${goodKey}`,
    });
    stream.end(Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]));
    const headers = await new Promise<Record<string, unknown>>((resolve) =>
      stream.once("response", resolve),
    );
    expect(headers["grpc-status"]).toBe(String(Code.InvalidArgument));
    expect(headers["grpc-status-details-bin"]).toBeDefined();
    session.close();
    const task = await createClient(TaskService, channel).getTask({
      name: "projects/proj-a/tasks/t",
    });
    expect(task.name).toBe("projects/proj-a/tasks/t");
    channel.close();
  });
});

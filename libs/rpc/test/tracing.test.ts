import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { createTracing } from "@fastgpu/telemetry/tracing";
import { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { expect, test } from "vitest";
import { createChannel } from "../src/channel.ts";
import { createClient } from "../src/client.ts";
import { service } from "../src/handlers.ts";
import { startServer } from "../src/server.ts";
import { clock, createAuthority, log } from "./harness.ts";

test("a call through two services is one trace, each side of each call a span with its status", async () => {
  const authority = await createAuthority();
  const memory = new InMemorySpanExporter();
  const token = () => authority.token({ sub: "key-a", org: "org-a", role: "org_admin" });
  const start = async (name: string, list: (parent: unknown) => Promise<void>) => {
    const tracing = await createTracing({ service: name, memory });
    const server = await startServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [
        service(NodeService, {
          async listNodes(_, context) {
            await list(context);
            return {};
          },
          getNode: () => Promise.reject(new Error("unused")),
          listGpus: () => Promise.reject(new Error("unused")),
        }),
      ],
      auth: authority.authenticator,
      clock,
      log,
      tracing,
    });
    return { server, channel: createChannel({ address: server.address, token, tracing }) };
  };
  const back = await start("back", () => Promise.reject(new Fault("STALE_ETAG", "read again")));
  const front = await start("front", async (parent) => {
    const client = createClient(NodeService, back.channel);
    await client.listNodes({}, { parent: parent as never });
  });
  const call = createClient(NodeService, front.channel).listNodes({});
  await expect(call).rejects.toThrow("read again");

  const spans = memory.getFinishedSpans();
  const nameOf = (span: ReadableSpan) => {
    const kind = span.kind === 1 ? "server" : "client";
    return `${String(span.resource.attributes["service.name"])} ${kind}`;
  };
  const tree = spans.map((span) => {
    const parentId = span.parentSpanContext?.spanId;
    const parent = spans.find((other) => other.spanContext().spanId === parentId);
    return `${nameOf(span)} < ${parent === undefined ? "nothing" : nameOf(parent)}`;
  });
  expect(tree.toSorted()).toEqual([
    "back client < front server",
    "back server < back client",
    "front client < nothing",
    "front server < front client",
  ]);
  expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(1);
  for (const span of spans) {
    expect(span.attributes).toEqual({
      "rpc.system.name": "grpc",
      "rpc.method": "fastgpu.scheduler.v1.NodeService/ListNodes",
      "rpc.response.status_code": "ABORTED",
    });
  }
  for (const { server, channel } of [front, back]) {
    channel.close();
    await server.close(0);
  }
});

test("a client that records nothing leaves it to the server to begin a recorded trace", async () => {
  const authority = await createAuthority();
  const memory = new InMemorySpanExporter();
  const tracing = await createTracing({ service: "back", memory });
  const unused = () => Promise.reject(new Error("unused"));
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [
      service(NodeService, {
        listNodes: () => Promise.resolve({}),
        getNode: unused,
        listGpus: unused,
      }),
    ],
    ...{ auth: authority.authenticator, clock, log, tracing },
  });
  const token = () => authority.token({ sub: "key-a", org: "org-a", role: "org_admin" });
  const channel = createChannel({ address: server.address, token });
  await createClient(NodeService, channel).listNodes({});
  const [span] = memory.getFinishedSpans();
  expect(span?.parentSpanContext).toBeUndefined();
  channel.close();
  await server.close(0);
});

import { createServer } from "node:http";
import { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import { describe, expect, test } from "vitest";
import {
  ROOT_CONTEXT,
  contextFromTraceparent,
  formatTraceparent,
  parseTraceparent,
  traceIdOf,
  traceparentOf,
} from "./trace-context.ts";
import { createTracing, inSpan, otlpUrlOf, passiveTracing } from "./tracing.ts";

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

describe("a traceparent", () => {
  test("is read and written", () => {
    const span = parseTraceparent(traceparent);
    expect(span).toMatchObject({ traceId: "0af7651916cd43dd8448eb211c80319c", traceFlags: 1 });
    expect(span === undefined ? "" : formatTraceparent(span)).toBe(traceparent);
    expect(traceparentOf(contextFromTraceparent(traceparent))).toBe(traceparent);
  });

  test("of a later version is read by what it shares with this one", () => {
    expect(parseTraceparent(traceparent.replace(/^00/, "01") + "-more")?.spanId).toBe(
      "b7ad6b7169203331",
    );
  });

  test.each([
    "",
    "00-0-0-0",
    traceparent.toUpperCase(),
    `ff${traceparent.slice(2)}`,
    `00-${"0".repeat(32)}-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-${"0".repeat(16)}-01`,
  ])("that reads %j is none", (text) => {
    expect(parseTraceparent(text)).toBeUndefined();
    expect(contextFromTraceparent(text)).toBe(ROOT_CONTEXT);
  });
});

describe("without an exporter", () => {
  test("a trace id is made once and passed on", async () => {
    const tracing = await createTracing({ service: "scheduler" });
    expect(tracing).toBe(passiveTracing);
    const [outer, inner] = await inSpan(tracing, { name: "a", parent: ROOT_CONTEXT }, (context) =>
      inSpan(tracing, { name: "b", parent: context }, async (deeper) => [
        traceIdOf(context),
        traceIdOf(deeper),
      ]),
    );
    expect(outer).toMatch(/^[0-9a-f]{32}$/);
    expect(inner).toBe(outer);
  });

  test("a caller's trace goes on", async () => {
    const parent = contextFromTraceparent(traceparent);
    const seen = await inSpan(passiveTracing, { name: "a", parent }, async (context) =>
      traceparentOf(context),
    );
    expect(seen).toBe(traceparent);
  });
});

describe("with an exporter", () => {
  test("spans form a tree under the service's name, and an error is on its span", async () => {
    const memory = new InMemorySpanExporter();
    const tracing = await createTracing({ service: "scheduler", memory });
    const failing = inSpan(tracing, { name: "outer", parent: ROOT_CONTEXT }, (context) =>
      inSpan(tracing, { name: "inner", parent: context, attributes: { task: "task-1" } }, () =>
        Promise.reject(new Error("no")),
      ),
    );
    await expect(failing).rejects.toThrow("no");
    const [inner, outer] = memory.getFinishedSpans();
    expect(inner?.name).toBe("inner");
    expect(inner?.attributes).toEqual({ task: "task-1" });
    expect(inner?.status.code).toBe(2);
    expect(inner?.parentSpanContext?.spanId).toBe(outer?.spanContext().spanId);
    expect(outer?.resource.attributes["service.name"]).toBe("scheduler");
    await tracing.shutdown();
  });
});

test("spans reach an OTLP collector, at the latest at shutdown", async () => {
  const received: string[] = [];
  const collector = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      received.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  const address = collector.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const tracing = await createTracing({
    service: "scheduler",
    otlpUrl: `http://127.0.0.1:${port}/v1/traces`,
  });
  await inSpan(tracing, { name: "lease", parent: ROOT_CONTEXT }, () => Promise.resolve());
  await tracing.shutdown();
  expect(received).toHaveLength(1);
  expect(received[0]).toContain("POST /v1/traces");
  expect(received[0]).toContain("scheduler");
  expect(received[0]).toContain("lease");
  await new Promise((resolve) => collector.close(resolve));
});

test.each([
  [{}, undefined],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "" }, undefined],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318" }, "http://c:4318/v1/traces"],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318/otlp/" }, "http://c:4318/otlp/v1/traces"],
  [
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318",
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://d/in",
    },
    "http://d/in",
  ],
])("the environment %j names the collector %s", (env, url) => {
  expect(otlpUrlOf(env)).toBe(url);
});

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import { TaskState, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { expect, test } from "vitest";
import { endOf, script, settledAudit, testPlatform, type TestPlatform } from "./harness.ts";

/** What a test looks at of a span, wherever it was collected. */
interface Seen {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string | undefined;
}

/** The way of a GPU task with an output, from the gateway down to the bill: `service name`, leaves first. */
const expectedPaths = [
  [
    "storage fastgpu.storage.v1.AttemptStorageService/StoreArtifact",
    "worker fastgpu.storage.v1.AttemptStorageService/StoreArtifact",
    "worker attempt.keep",
    "worker attempt.run",
    "scheduler lease",
    "scheduler fastgpu.scheduler.v1.TaskService/RunTask",
    "gateway fastgpu.scheduler.v1.TaskService/RunTask",
  ],
  [
    "storage fastgpu.storage.v1.AttemptStorageService/PutManifest",
    "worker fastgpu.storage.v1.AttemptStorageService/PutManifest",
    "worker attempt.keep",
    "worker attempt.run",
    "scheduler lease",
  ],
  ["worker attempt.start", "worker attempt.run", "scheduler lease"],
  ["scheduler attempt.end", "scheduler lease"],
  ["scheduler publish fastgpu.events.v1.UsageCut", "scheduler lease"],
];

async function runTraced(p: TestPlatform): Promise<Task> {
  const text = 'echo computed; echo 42 > "$FASTGPU_OUTPUT_DIR/answer.txt"';
  const accepted = await p.tasks.runTask({ parent: p.parent, task: script(text, { gpus: 1 }) });
  const end = await endOf(p, accepted.name);
  expect(end).toMatchObject({ state: TaskState.SUCCEEDED, traceId: accepted.traceId });
  expect(end.traceId).toMatch(/^[0-9a-f]{32}$/);
  // Billing has closed the hold: the trace has come to its end.
  expect((await settledAudit(p)).ok).toBe(true);
  return end;
}

/** `service name` of a span and of those above it. */
function pathOf(spans: readonly Seen[], from: Seen): string[] {
  const above = spans.find((span) => span.spanId === from.parentId);
  const rest = above === undefined ? [] : pathOf(spans, above);
  return [`${from.service} ${from.name}`, ...rest];
}

/** All spans of a trace form one tree with the gateway's call as its root, and every expected way is in it. */
function checkTree(all: readonly Seen[], traceId: string): void {
  const spans = all.filter((span) => span.traceId === traceId);
  const roots = spans.filter((span) => span.parentId === undefined);
  expect(roots.map((span) => `${span.service} ${span.name}`)).toEqual([
    "gateway fastgpu.scheduler.v1.TaskService/RunTask",
  ]);
  const known = new Set(spans.map((span) => span.spanId));
  const orphans = spans.filter((span) => span.parentId !== undefined && !known.has(span.parentId));
  expect(orphans.map((span) => `${span.service} ${span.name}`)).toEqual([]);
  const paths = spans.map((span) => pathOf(spans, span));
  for (const expected of expectedPaths) {
    const found = paths.some((path) => expected.every((step, i) => path[i] === step));
    expect(
      found,
      `${expected.join(" < ")}\nnot in\n${paths.map((path) => path.join(" < ")).join("\n")}`,
    ).toBe(true);
  }
  // Billing heard of the usage over the bus, or read it in the scheduler's log: below the publication or the lease.
  const usage = paths.filter(([first]) => first === "billing billing rate usage");
  expect(usage.length).toBeGreaterThan(0);
  for (const path of usage) {
    expect(path.slice(1).join(" < ")).toMatch(/^(scheduler publish \S+ < )?scheduler lease < /);
  }
}

test("one task is one trace: gateway, scheduler, worker, bus, billing and storage hang in one tree", async () => {
  const spans = new InMemorySpanExporter();
  await using p = await testPlatform({ spans });
  const { traceId } = await runTraced(p);
  const seen = spans.getFinishedSpans().map((span) => ({
    service: String(span.resource.attributes["service.name"]),
    name: span.name,
    traceId: span.spanContext().traceId,
    spanId: span.spanContext().spanId,
    parentId: span.parentSpanContext?.spanId,
  }));
  checkTree(seen, traceId);
  // Calls that belong to nobody's task do not get into its trace.
  expect(new Set(seen.map((span) => span.traceId)).size).toBeGreaterThan(1);
}, 120_000);

/** What a collector receives: OTLP as JSON, as far as this test reads it. */
interface Otlp {
  readonly resourceSpans: readonly {
    readonly resource: {
      readonly attributes: readonly { key: string; value: { stringValue?: string } }[];
    };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        traceId: string;
        spanId: string;
        parentSpanId?: string;
        name: string;
      }[];
    }[];
  }[];
}

/** An OTLP/HTTP collector that keeps what it gets. */
async function startCollector(): Promise<AsyncDisposable & { url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      seen.push(...readOtlp(JSON.parse(Buffer.concat(parts).toString()) as Otlp));
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1/traces`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function readOtlp(otlp: Otlp): Seen[] {
  return otlp.resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const named = resource.attributes.find(({ key }) => key === "service.name");
    const service = named?.value.stringValue ?? "";
    return scopeSpans
      .flatMap((scope) => scope.spans)
      .map(({ name, traceId, spanId, parentSpanId }) => {
        return { service, name, traceId, spanId, parentId: parentSpanId || undefined };
      });
  });
}

/** Lines of a service's log file that name a trace. */
async function loggedOf(p: TestPlatform, service: string, traceId: string): Promise<unknown[]> {
  const text = await readFile(join(p.platform.dataDir, "log", `${service}.log`), "utf8");
  const lines = text.split("\n").filter((line) => line.startsWith("{"));
  return lines
    .map((line) => JSON.parse(line) as { trace_id?: string })
    .filter((line) => line.trace_id === traceId);
}

test("services apart send the same tree to a collector, and their logs name the trace", async () => {
  await using collector = await startCollector();
  let traceId: string;
  {
    await using p = await testPlatform({ split: true, logLevel: "debug", otlpUrl: collector.url });
    const task = await runTraced(p);
    traceId = task.traceId;
    const id = task.name.split("/").at(-1) ?? "";
    const attempt = expect.stringMatching(/^att-/);
    expect(await loggedOf(p, "scheduler", traceId)).toContainEqual(
      expect.objectContaining({
        service: "scheduler",
        msg: "end of attempt stored",
        task: id,
        attempt,
      }),
    );
    expect(await loggedOf(p, "worker-1", traceId)).toContainEqual(
      expect.objectContaining({ service: "worker", msg: "attempt ended", task: id, attempt }),
    );
  }
  // Stopping the services has sent what they still had.
  checkTree(collector.seen, traceId);
}, 180_000);

import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CreateHoldSchema } from "../src/fastgpu/billing/v1/billing_service_pb.ts";
import { EventBatchSchema } from "../src/fastgpu/events/v1/events_pb.ts";
import {
  TaskStateChangedSchema,
  UsageCutSchema,
} from "../src/fastgpu/events/v1/scheduler_events_pb.ts";
import { TaskSchema } from "../src/fastgpu/scheduler/v1/task_pb.ts";
import {
  ConnectRequestSchema,
  ConnectResponseSchema,
} from "../src/fastgpu/worker/v1/worker_session_pb.ts";

/**
 * Bytes of the messages that versions N and N − 1 exchange (I18). A change here breaks a rolling upgrade: numbers and
 * types of fields never change, whatever their names.
 */
function golden<D extends DescMessage>(schema: D, init: MessageInitShape<D>, hex: string): void {
  test(`the bytes of ${schema.typeName}`, () => {
    const bytes = toBinary(schema, create(schema, init));
    expect(Buffer.from(bytes).toString("hex")).toBe(hex);
    const read = fromBinary(schema, Buffer.from(hex, "hex"));
    expect(toBinary(schema, read)).toEqual(bytes);
  });
}

golden(
  TaskSchema,
  {
    name: "projects/p/tasks/t",
    displayName: "d",
    labels: { k: "v" },
    spec: {
      runtime: { case: "process", value: { command: ["true"] } },
      env: { A: "1" },
      resources: {
        gpu: { count: 2, models: ["H200"], minMemoryMib: 80_000n },
        cpuMillis: 1_000n,
        memoryMib: 512n,
      },
      array: { count: 10, parallelism: 3 },
      dependsOn: [{ task: "projects/p/tasks/u", condition: 1 }],
      retry: { maxRetries: 3, retryOn: [4] },
      maxRuntime: { seconds: 60n, nanos: 0 },
      simulated: 2,
      outputs: ["*.json"],
      priority: -1,
    },
    state: 5,
    exitClass: 1,
    exitCode: 0,
    revision: 7n,
  },
  "0a1270726f6a656374732f702f7461736b732f741201641a060a016b120176226412060a04747275651a060a014112013122140a0c08021204483230301880f10410e8071880042a04080a100332160a1270726f6a656374732f702f7461736b732f7510013a0508031201044202083c50025a062a2e6a736f6e68ffffffffffffffffff01280540014800980107",
);
golden(
  ConnectRequestSchema,
  {
    message: {
      case: "reports",
      value: {
        reports: [
          {
            reportId: 9n,
            attempt: "att-1",
            epoch: 3n,
            agoMs: 12n,
            event: {
              case: "ended",
              value: {
                exitClass: 2,
                exitCode: 7,
                message: "m",
                processesGoneAgoMs: 5n,
                elements: [{ exitClass: 1, ranges: [{ first: 0, last: 4 }] }],
              },
            },
          },
        ],
      },
    },
  },
  "1a220a20080912056174742d311803200c4a11080210071a016d20053a06080112021004",
);
golden(
  ConnectResponseSchema,
  {
    message: {
      case: "leases",
      value: {
        leases: [
          {
            attempt: "att-1",
            task: "task-1",
            org: "org-1",
            project: "proj-1",
            epoch: 3n,
            gpus: ["gpu-1"],
            leaseEndMs: 1_000n,
            serverTimeMs: 900n,
            elements: [{ first: 0, last: 9 }],
            slots: 1,
            attemptNumber: 1,
          },
        ],
      },
    },
  },
  "1a370a350a056174742d3112067461736b2d311a056f72672d31220670726f6a2d3128033a056770752d3140e8074884075a02100960016801",
);
golden(
  ConnectResponseSchema,
  {
    message: {
      case: "heartbeatAck",
      value: {
        ...{ sentAtMs: 1n, serverTimeMs: 900n, nodeLeaseEndMs: 1_000n },
        fundedEnds: [{ attempt: "att-1", endMs: 950n }],
        storageGrants: [{ attempt: "att-1-2", grant: "a.b.c" }],
      },
    },
  },
  "1226080110840718e807220a0a056174742d3110b6072a100a076174742d312d321205612e622e63",
);
golden(
  ConnectResponseSchema,
  { message: { case: "leases", value: { leases: [{ attempt: "att-1", storageGrant: "a.b.c" }] } } },
  "1a110a0f0a056174742d318a0105612e622e63",
);
golden(
  CreateHoldSchema,
  {
    attempt: "att-1",
    task: "task-1",
    org: "org-1",
    project: "proj-1",
    items: [{ sku: "gpu.h200", quantity: 2 }],
    coverMs: 1_000n,
    minCoverMs: 500n,
  },
  "0a056174742d3112067461736b2d311a056f72672d31220670726f6a2d312a0c0a086770752e68323030100230e80738f403",
);
golden(
  EventBatchSchema,
  {
    producer: "scheduler",
    incarnation: 1,
    events: [
      {
        seq: 4n,
        eventId: "evt-1",
        type: "T",
        aggregate: "task-1",
        aggregateRevision: 2n,
        occurredAt: { seconds: 1n, nanos: 0 },
        org: "org-1",
        project: "proj-1",
        traceparent: "00",
        payload: new Uint8Array([1, 2]),
      },
    ],
  },
  "0a097363686564756c657210011a31080412056576742d311a015422067461736b2d312802320208013a056f72672d31420670726f6a2d314a02303052020102",
);
golden(
  TaskStateChangedSchema,
  { task: "task-1", from: 2, to: 3, exitClass: 0 },
  "0a067461736b2d3110021803",
);
golden(
  UsageCutSchema,
  {
    attempt: "att-1",
    task: "task-1",
    final: true,
    segments: [
      {
        member: 0,
        gpu: "gpu-1",
        seq: 1,
        kind: 2,
        sku: "gpu.h200",
        priceVersion: 1,
        startMs: 10n,
        endMs: 20n,
        billingStartMs: 0n,
        billingEndMs: 10n,
        simulated: true,
      },
    ],
  },
  "0a056174742d3112067461736b2d311a1f12056770752d31180120022a086770752e683230303001380a4014500a58012001",
);

import { readFile } from "node:fs/promises";
import { getOption, hasOption, type DescMessage } from "@bufbuild/protobuf";
import { field as fieldRules, type FieldRules } from "@fastgpu/contracts/buf/validate/validate_pb";
import {
  ArraySpecSchema,
  GpuRequestSchema,
  RetrySpecSchema,
  TaskSchema,
  TaskSpecSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  BatchRunTasksRequestSchema,
  ListTasksRequestSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { maxMembers } from "@fastgpu/domain/member-name";
import { maxFreeRequeues } from "@fastgpu/domain/retry";
import { limits as rpcLimits } from "@fastgpu/rpc/limits";
import { maxElementsPerLease } from "@fastgpu/scheduling/plan";
import { expect, test } from "vitest";
import { schedulerConfig } from "../src/config.ts";
import { maxGangGpus } from "../src/spec/gang.ts";
import { specLimits } from "../src/spec/task-spec.ts";

/** The stated limit of a row of docs/limits.md. */
async function stated(what: string): Promise<string> {
  const text = await readFile(new URL("../../../docs/limits.md", import.meta.url), "utf8");
  const row = text.split("\n").find((line) => line.startsWith(`| ${what} |`));
  expect(row, `docs/limits.md has no row "${what}"`).toBeDefined();
  return row?.split(" | ")[1] ?? "";
}

function rulesOf(schema: DescMessage, name: string): FieldRules {
  const desc = schema.fields.find((field) => field.name === name);
  if (desc === undefined || !hasOption(desc, fieldRules)) {
    throw new Error(`${schema.typeName}.${name} has no rules`);
  }
  return getOption(desc, fieldRules);
}

/** The greatest value, length or number of items that a field's rules allow. */
function greatest(schema: DescMessage, name: string): number {
  const { type } = rulesOf(schema, name);
  switch (type.case) {
    case "repeated":
      return Number(type.value.maxItems);
    case "map":
      return Number(type.value.maxPairs);
    case "string":
      return Number(type.value.maxLen);
    case "int32":
    case "int64":
      return Number(type.value.lessThan.value);
    default:
      throw new Error(`${schema.typeName}.${name} has rules of another kind`);
  }
}

const thousands = (value: number): string => value.toLocaleString("en-US");

test.each([
  ["gRPC message", () => `${rpcLimits.messageBytes / 2 ** 20} MiB`],
  ["task spec, serialized", () => `${specLimits.specBytes / 1024} KiB`],
  [
    "environment of a task",
    () =>
      `${greatest(TaskSpecSchema, "env")} variables, ${specLimits.envBytes / 1024} KiB together`,
  ],
  ["labels", () => `${greatest(TaskSchema, "labels")}; keys 63, values 255 characters`],
  ["display name", () => `${greatest(TaskSchema, "display_name")} characters`],
  [
    "array",
    () =>
      `${thousands(greatest(ArraySpecSchema, "count"))} elements; ${thousands(maxElementsPerLease)} in one lease`,
  ],
  ["batch of tasks", () => thousands(greatest(BatchRunTasksRequestSchema, "items"))],
  ["dependencies of a task", () => `${greatest(TaskSpecSchema, "depends_on")}, each named once`],
  [
    "retries",
    () => `${greatest(RetrySpecSchema, "max_retries")}; requeues without cost ${maxFreeRequeues}`,
  ],
  [
    "GPUs of an attempt, of a gang of each member",
    () => `${thousands(greatest(GpuRequestSchema, "count"))}, all on one node`,
  ],
  [
    "gang",
    () => {
      expect(greatest(TaskSpecSchema, "replicas")).toBe(maxMembers);
      return `${thousands(maxMembers)} members; ${thousands(maxGangGpus)} GPUs together; no array of gangs`;
    },
  ],
  ["page", () => thousands(greatest(ListTasksRequestSchema, "page_size"))],
  [
    "page token, filter",
    () => `${thousands(greatest(ListTasksRequestSchema, "filter"))} characters`,
  ],
  [
    "node lease",
    () => {
      const { leaseTtlMs, skewMs } = schedulerConfig.shape;
      const ttlMs = leaseTtlMs.parse(undefined);
      return `${ttlMs / 1000} s, renewed every ${ttlMs / 3000} s; placed again ${skewMs.parse(undefined) / 1000} s after it ends`;
    },
  ],
])("%s: docs and code state the same limit", async (what, actual) => {
  expect(await stated(what)).toBe(actual());
});

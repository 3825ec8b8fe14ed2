import { glob } from "node:fs/promises";
import { create, getOption, hasOption } from "@bufbuild/protobuf";
import type { DescField, DescMessage, DescService, Message } from "@bufbuild/protobuf";
import {
  field as fieldOption,
  oneof as oneofOption,
} from "@fastgpu/contracts/buf/validate/validate_pb";
import type { FieldRules } from "@fastgpu/contracts/buf/validate/validate_pb";

/** Every service of proto/fastgpu, found by looking, so that a new one cannot be forgotten. */
export async function allServices(): Promise<DescService[]> {
  const root = new URL("../../contracts/src/fastgpu/", import.meta.url);
  const services: DescService[] = [];
  for await (const file of glob("**/*_pb.ts", { cwd: root.pathname })) {
    const exported = (await import(new URL(file, root).href)) as Record<string, unknown>;
    services.push(...Object.values(exported).filter(isService));
  }
  return services.toSorted((a, b) => (a.typeName < b.typeName ? -1 : 1));
}

function isService(value: unknown): value is DescService {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "service";
}

/** What resource names in a generated request point at. */
export interface Target {
  readonly project: string;
  readonly org: string;
}

/** The smallest request that keeps the rules of its proto and names the target wherever it names a resource. */
export function minimalRequest(schema: DescMessage, target: Target): Message {
  return create(schema, minimalInit(schema, target));
}

type Init = Record<string, unknown>;

function minimalInit(schema: DescMessage, target: Target): Init {
  const init: Init = {};
  for (const field of schema.fields) {
    if (field.oneof !== undefined) continue;
    const value = minimalValue(field, target);
    if (value !== undefined) init[field.localName] = value;
  }
  for (const oneof of schema.oneofs) {
    const [first] = oneof.fields;
    if (first === undefined || !hasOption(oneof, oneofOption)) continue;
    if (!getOption(oneof, oneofOption).required) continue;
    init[oneof.localName] = {
      case: first.localName,
      value:
        minimalValue(first, target) ?? (first.message ? minimalInit(first.message, target) : ""),
    };
  }
  return init;
}

function minimalValue(field: DescField, target: Target): unknown {
  if (!hasOption(field, fieldOption)) return undefined;
  const rules = getOption(field, fieldOption);
  const { type } = rules;
  switch (type.case) {
    case "string":
      if (type.value.wellKnown.case === "uuid") return "0197f3a0-0000-7000-8000-000000000001";
      if (type.value.pattern !== "") return sampleOf(type.value.pattern, target);
      return type.value.minLen > 0n ? "x".repeat(Number(type.value.minLen)) : undefined;
    case "bytes":
      return type.value.len > 0n ? new Uint8Array(Number(type.value.len)) : undefined;
    case "int32":
    case "int64":
      return leastOf(type.value.greaterThan);
    case "repeated":
      return type.value.minItems > 0n ? [itemOf(field, target)] : undefined;
    default:
      return rules.required && field.message ? minimalInit(field.message, target) : undefined;
  }
}

function leastOf(bound: {
  readonly case?: string | undefined;
  readonly value?: number | bigint | undefined;
}) {
  if (bound.value === undefined || bound.case === undefined) return undefined;
  const step = bound.case === "gt" ? 1 : 0;
  return typeof bound.value === "bigint" ? bound.value + BigInt(step) : bound.value + step;
}

function itemOf(field: DescField, target: Target): unknown {
  if (field.message !== undefined) return minimalInit(field.message, target);
  const items: FieldRules | undefined = getOption(field, fieldOption).type.value as never;
  const rules = (items as unknown as { readonly items?: FieldRules } | undefined)?.items;
  return rules?.type.case === "string" && rules.type.value.pattern !== ""
    ? sampleOf(rules.type.value.pattern, target)
    : "x";
}

/** A text that the few forms of pattern in our protos accept. */
function sampleOf(pattern: string, target: Target): string {
  return pattern
    .replace(/^\^/, "")
    .replace(/\$$/, "")
    .replaceAll(/\([^()]*\)\?/g, "")
    .replaceAll(/\(([^()|]*)\|[^()]*\)/g, "$1")
    .replaceAll("projects/[^/]+", `projects/${target.project}`)
    .replaceAll("organizations/[^/]+", `organizations/${target.org}`)
    .replaceAll("[^/]+", "x1")
    .replaceAll(/\[[^\]]*\]\{(\d+)\}/g, (_, count: string) => "a".repeat(Number(count)));
}

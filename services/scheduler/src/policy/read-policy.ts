import { Fault } from "@fastgpu/domain/fault";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { policies } from "@fastgpu/scheduling/placement/engine";
import {
  checkSchedulingPolicy,
  defaultSchedulingPolicy,
  type SchedulingPolicy,
} from "@fastgpu/scheduling/scheduling-policy";
import { isMap, isScalar, LineCounter, parseDocument, type YAMLMap } from "yaml";
import { z } from "zod";

type Tree = { [key: string]: unknown };

/**
 * The schema follows the shipped policy: each of its parameters, with its type and its value where the file has none.
 * A parameter that the engine gets tomorrow can be set without a change here.
 */
function schemaOf(shipped: Readonly<Record<string, unknown>>): z.ZodObject {
  return z.strictObject(
    Object.fromEntries(
      Object.entries(shipped).map(([key, value]) => [key, fieldOf(key, value)] as const),
    ),
  );
}

function fieldOf(key: string, shipped: unknown): z.ZodType {
  if (key === "placement") {
    return z.enum(Object.keys(policies)).default(defaultSchedulingPolicy.placement);
  }
  if (typeof shipped === "number") return z.number().default(shipped);
  if (typeof shipped === "boolean") return z.boolean().default(shipped);
  if (typeof shipped === "string") return z.string().default(shipped);
  return schemaOf(shipped as Tree).prefault({});
}

const schema = schemaOf({ ...defaultSchedulingPolicy });

/**
 * Reads a policy: YAML, in which keys may be written `minRunMs` or `min_run_ms`. Throws UNKNOWN_FIELD with the nearest
 * known parameter, or INVALID_FIELD, each with the place as `name:line`.
 */
export function readPolicy(text: string, name: string): SchedulingPolicy {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [syntax] = document.errors;
  if (syntax !== undefined) {
    const firstLine = syntax.message.replace(/( at line \d+, column \d+)?:?\n.*$/s, "");
    const line = lines.linePos(syntax.pos[0]).line;
    throw new Fault("INVALID_FIELD", `${name}:${line}: ${firstLine}`, { cause: syntax });
  }
  const found = new Map<string, number>();
  const root = document.contents;
  const given =
    root === null || (isScalar(root) && root.value === null)
      ? {}
      : isMap(root)
        ? treeOf(root, { ...defaultSchedulingPolicy }, { name, lines, found, path: "" })
        : refuse("INVALID_FIELD", `${name}:1: it must be a mapping of parameters`, "");
  const at = (path: string): string => {
    for (let part = path; ; part = part.slice(0, part.lastIndexOf("."))) {
      const line = found.get(part);
      if (line !== undefined) return `${name}:${line}: ${path}`;
      if (!part.includes(".")) return `${name}: ${path}`;
    }
  };
  const parsed = schema.safeParse(given);
  const [issue] = parsed.error?.issues ?? [];
  if (issue !== undefined) {
    const path = issue.path.join(".");
    refuse("INVALID_FIELD", `${at(path)}: ${issue.message}`, path);
  }
  // The schema was made from a policy: what it lets through has the form of one.
  const policy = parsed.data as unknown as SchedulingPolicy;
  const problem = checkSchedulingPolicy(policy);
  if (problem !== undefined) {
    refuse("INVALID_FIELD", `${at(problem.field)}: ${problem.problem}`, problem.field);
  }
  return policy;
}

interface Walk {
  readonly name: string;
  readonly lines: LineCounter;
  /** The line of each parameter by its path. */
  readonly found: Map<string, number>;
  readonly path: string;
}

/** The mapping with its keys as the policy has them. */
function treeOf(map: YAMLMap, shipped: Readonly<Tree>, walk: Walk): Tree {
  const { name, lines, found } = walk;
  const known = Object.keys(shipped);
  const tree: Tree = {};
  for (const { key, value } of map.items) {
    const start = isScalar(key) ? (key.range?.[0] ?? 0) : 0;
    const { line } = lines.linePos(start);
    const written = isScalar(key) ? String(key.value) : "?";
    const canonical = known.find((each) => plain(each) === plain(written));
    const path = `${walk.path}${canonical ?? written}`;
    if (canonical === undefined) {
      const close = nearest(written, known);
      const hint = close === undefined ? `known: ${known.join(", ")}` : `did you mean ${close}?`;
      return refuse("UNKNOWN_FIELD", `${name}:${line}: ${path} is no parameter`, path, hint);
    }
    if (found.has(path)) refuse("INVALID_FIELD", `${name}:${line}: ${path} is given twice`, path);
    found.set(path, line);
    const inner = shipped[canonical];
    tree[canonical] =
      isMap(value) && typeof inner === "object"
        ? treeOf(value, inner as Tree, { ...walk, path: `${path}.` })
        : toValue(value);
  }
  return tree;
}

/** A value that is no mapping of ours, as it is: the schema says what is wrong with it. */
function toValue(value: unknown): unknown {
  if (isScalar(value)) return value.value ?? undefined;
  return value === null ? undefined : value;
}

const plain = (key: string): string => key.replaceAll(/[_-]/g, "").toLowerCase();

function refuse(
  reason: "INVALID_FIELD" | "UNKNOWN_FIELD",
  message: string,
  field: string,
  hint?: string,
): never {
  throw new Fault(reason, message, {
    ...(field === "" ? {} : { violations: [{ field, description: message }] }),
    ...(hint === undefined ? {} : { hint }),
  });
}

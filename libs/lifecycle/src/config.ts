import { Fault } from "@fastgpu/domain/fault";
import { parse } from "yaml";
import { z } from "zod";
import { nearest } from "./nearest.ts";

/** A schema per section of `fastgpu.yaml`; each is a `z.strictObject`. */
export type ConfigSchemas = Readonly<Record<string, z.ZodObject>>;

/** The parsed sections, each with its defaults filled in. */
export type Config<S extends ConfigSchemas> = { readonly [K in keyof S]: z.output<S[K]> };

/** Where configuration comes from. Later ones win: text, then environment. */
export interface ConfigSource {
  /** The YAML text of `fastgpu.yaml`; missing = all defaults. */
  readonly text?: string;
  /** Named in errors. */
  readonly name?: string;
  /** Only variables such as `FASTGPU_SCHEDULER__LEASE_TTL_MS` are looked at. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

type Tree = Record<string, unknown>;

/**
 * Parses configuration. Keys may be written `leaseTtlMs` or `lease_ttl_ms`; durations, sizes and
 * names are checked by each section's schema. An unknown section or key is a Fault that names the
 * nearest known one: a misspelt setting must never be ignored.
 */
export function parseConfig<S extends ConfigSchemas>(schemas: S, source: ConfigSource): Config<S> {
  const name = source.name ?? "fastgpu.yaml";
  const sections = readSections(schemas, source.text ?? "", name);
  applyEnvironment(schemas, sections, source.env ?? {});
  const config: Tree = {};
  for (const [section, schema] of Object.entries(schemas)) {
    const parsed = schema.safeParse(sections[section] ?? {});
    if (!parsed.success) throw describeFailure(section, parsed.error, name);
    config[section] = parsed.data;
  }
  return config as Config<S>;
}

function readSections(schemas: ConfigSchemas, text: string, name: string): Record<string, Tree> {
  let root: unknown;
  try {
    root = parse(text) ?? {};
  } catch (error) {
    throw new Fault("INVALID_FIELD", `${name} is not valid YAML: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (!isTree(root)) throw Fault.invalid(name, "must hold one mapping of sections");
  const sections: Record<string, Tree> = {};
  for (const [key, value] of Object.entries(root)) {
    const section = matchKey(key, Object.keys(schemas));
    if (section === undefined) throw unknownKey(key, Object.keys(schemas), name);
    const schema = schemas[section];
    if (value === null || schema === undefined) continue;
    if (!isTree(value)) throw Fault.invalid(section, `must be a mapping in ${name}`);
    sections[section] = canonicalKeys(schema, value, { path: section, name });
  }
  return sections;
}

/** Renames the keys of a section to those of its schema, refusing what the schema does not know. */
function canonicalKeys(schema: z.ZodObject, value: Tree, at: { path: string; name: string }): Tree {
  const known = Object.keys(schema.shape);
  const result: Tree = {};
  for (const [key, inner] of Object.entries(value)) {
    const canonical = matchKey(key, known);
    const path = `${at.path}.${canonical ?? key}`;
    if (canonical === undefined)
      throw unknownKey(
        path,
        known.map((k) => `${at.path}.${k}`),
        at.name,
      );
    if (canonical in result) throw Fault.invalid(path, `is given twice in ${at.name}`);
    const field = unwrap(schema.shape[canonical]);
    result[canonical] =
      field instanceof z.ZodObject && isTree(inner)
        ? canonicalKeys(field, inner, { path, name: at.name })
        : inner;
  }
  return result;
}

const environmentPrefix = "FASTGPU_";

/** `FASTGPU_SECTION__KEY[__KEY]=value`; a variable without `__` (FASTGPU_DATA) belongs to somebody else. */
function applyEnvironment(
  schemas: ConfigSchemas,
  sections: Record<string, Tree>,
  env: Readonly<Record<string, string | undefined>>,
): void {
  for (const [variable, value] of Object.entries(env)) {
    if (value === undefined || !variable.startsWith(environmentPrefix)) continue;
    const [head, ...rest] = variable.slice(environmentPrefix.length).split("__");
    if (head === undefined || rest.length === 0) continue;
    const section = matchKey(head, Object.keys(schemas));
    const schema = section === undefined ? undefined : schemas[section];
    if (section === undefined || schema === undefined) {
      throw unknownKey(head.toLowerCase(), Object.keys(schemas), variable);
    }
    const target = (sections[section] ??= {});
    setPath({ schema, target, keys: rest, path: section, variable, value });
  }
}

function setPath(at: {
  schema: z.ZodObject;
  target: Tree;
  keys: readonly string[];
  path: string;
  variable: string;
  value: string;
}): void {
  const [key, ...rest] = at.keys;
  const known = Object.keys(at.schema.shape);
  const canonical = key === undefined ? undefined : matchKey(key, known);
  if (canonical === undefined) {
    const paths = known.map((k) => `${at.path}.${k}`);
    throw unknownKey(`${at.path}.${camelCase(key ?? "")}`, paths, at.variable);
  }
  const field = unwrap(at.schema.shape[canonical]);
  if (rest.length === 0) {
    at.target[canonical] = readValue(field, at.value);
    return;
  }
  const path = `${at.path}.${canonical}`;
  if (!(field instanceof z.ZodObject))
    throw Fault.invalid(path, `has no parts (from ${at.variable})`);
  const existing = at.target[canonical];
  const inner: Tree = isTree(existing) ? existing : {};
  at.target[canonical] = inner;
  setPath({ ...at, schema: field, target: inner, keys: rest, path });
}

/** Text stays text where the schema wants text; everywhere else the value is read as YAML. */
function readValue(field: unknown, value: string): unknown {
  if (field instanceof z.ZodString || field instanceof z.ZodEnum) return value;
  try {
    return parse(value) as unknown;
  } catch {
    return value;
  }
}

/** The schema under defaults, optionals and the like. */
function unwrap(schema: unknown): unknown {
  let current = schema;
  while (
    current instanceof z.ZodDefault ||
    current instanceof z.ZodOptional ||
    current instanceof z.ZodNullable ||
    current instanceof z.ZodPrefault
  ) {
    current = current.unwrap();
  }
  return current;
}

function describeFailure(section: string, error: z.ZodError, name: string): Fault {
  const violations = error.issues.map((issue) => ({
    field: [section, ...issue.path.map(String)].join("."),
    description: issue.message,
  }));
  const list = violations.map((v) => `${v.field}: ${v.description}`).join("; ");
  return new Fault("INVALID_FIELD", `${name}: ${list}`, { violations, cause: error });
}

function unknownKey(path: string, known: readonly string[], name: string): Fault {
  const suggestion = nearest(path, known);
  return new Fault("UNKNOWN_FIELD", `${name}: unknown setting ${path}`, {
    violations: [{ field: path, description: "is not a known setting" }],
    hint: suggestion === undefined ? `known: ${known.join(", ")}` : `did you mean ${suggestion}?`,
  });
}

function matchKey(key: string, known: readonly string[]): string | undefined {
  const plain = plainKey(key);
  return known.find((candidate) => plainKey(candidate) === plain);
}

function plainKey(key: string): string {
  return key.replaceAll(/[_-]/g, "").toLowerCase();
}

function camelCase(key: string): string {
  return key.toLowerCase().replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

import type { DescField, DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { CliError } from "../errors/cli-error.ts";
import { durationMs } from "../parse/quantities.ts";

/**
 * Turns what people write in a spec file into the JSON form of a protobuf message: short enum
 * names (`forbid` for `SIMULATED_POLICY_FORBID`), durations with units (`10m` for `600s`), numbers
 * in string fields. Field names may be as in the .proto or as in JSON. Throws a CliError that names
 * the path of what it does not know.
 */
export function toJsonForm(schema: DescMessage, value: unknown, path = ""): JsonObject {
  if (!isObject(value)) throw wrong(path || "the file", "names and values are wanted here");
  const form: JsonObject = {};
  for (const [name, inner] of Object.entries(value)) {
    const at = path === "" ? name : `${path}.${name}`;
    const field = schema.fields.find((known) => known.name === name || known.jsonName === name);
    if (field === undefined) throw unknownField(schema, name, at);
    // As in JSON, null is the same as leaving the field out.
    if (inner !== null) form[field.jsonName] = fieldForm(field, inner, at);
  }
  return form;
}

function fieldForm(field: DescField, value: unknown, path: string): JsonValue {
  switch (field.fieldKind) {
    case "message":
      return messageForm(field.message, value, path);
    case "enum":
      return enumForm(field, value, path);
    case "scalar":
      return scalarForm(value, path);
    case "list":
      if (!Array.isArray(value)) throw wrong(path, "a list is wanted here");
      return value.map((item: unknown, index) => {
        const at = `${path}[${index}]`;
        if (field.listKind === "message") return messageForm(field.message, item, at);
        if (field.listKind === "enum") return enumForm(field, item, at);
        return textForm(item, at);
      });
    case "map":
      if (!isObject(value)) throw wrong(path, "names and values are wanted here");
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, textForm(item, `${path}.${key}`)]),
      );
  }
}

function messageForm(schema: DescMessage, value: unknown, path: string): JsonValue {
  if (schema.typeName === "google.protobuf.Duration") {
    try {
      return `${durationMs(String(value)) / 1000}s`;
    } catch {
      throw wrong(
        path,
        `a duration is wanted here, for example 90s, 10m or 2h, not ${JSON.stringify(value)}`,
      );
    }
  }
  if (schema.typeName === "google.protobuf.Timestamp") return String(value);
  return toJsonForm(schema, value, path);
}

function enumForm(
  field: DescField & { enum: NonNullable<DescField["enum"]> },
  value: unknown,
  path: string,
): JsonValue {
  const names = field.enum.values.filter(({ number }) => number !== 0);
  const wanted = String(value).toUpperCase().replaceAll("-", "_");
  const found = names.find(({ name, localName }) => name === wanted || localName === wanted);
  if (found !== undefined) return found.name;
  const known = names.map(({ localName }) => localName.toLowerCase());
  const close = nearest(String(value), known);
  throw new CliError(`${path}: ${JSON.stringify(value)} is not one of its values`, {
    why: `it can be ${known.join(", ")}`,
    ...(close === undefined ? {} : { hint: `${path}: ${close}` }),
  });
}

function scalarForm(value: unknown, path: string): string | number | boolean {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
    return value;
  throw wrong(path, "a single value is wanted here");
}

/** Items of lists and maps are all strings in the specs: `[python, 3]` and `SEED: 7` mean text. */
function textForm(value: unknown, path: string): JsonValue {
  return String(scalarForm(value, path));
}

function unknownField(schema: DescMessage, name: string, path: string): CliError {
  const known = schema.fields.map((field) => field.name);
  const close = nearest(name, known);
  return new CliError(`${path}: there is no such field`, {
    why: `${schema.name} has ${known.join(", ")}`,
    ...(close === undefined ? {} : { hint: `${close} instead of ${name}` }),
  });
}

function wrong(path: string, why: string): CliError {
  return new CliError(`${path} is not understood`, { why });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

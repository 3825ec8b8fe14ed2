import { fromJson } from "@bufbuild/protobuf";
import type { DescField, DescMessage, JsonValue } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import type { FieldViolation } from "@fastgpu/domain/fault";
import { nearest } from "@fastgpu/lifecycle/nearest";

/**
 * Refuses a JSON request that would not parse: UNKNOWN_FIELD with the path of every key that the message does not have,
 * INVALID_FIELD with the path of the first value of a wrong type.
 */
export function checkJson(schema: DescMessage, json: JsonValue): void {
  const unknown = unknownKeys(schema, json, "");
  const [first] = unknown;
  if (first !== undefined) {
    throw new Fault("UNKNOWN_FIELD", `${first.field}: ${first.description}`, {
      violations: unknown,
      hint: "names are those of the .proto files, in lowerCamelCase or snake_case",
    });
  }
  const bad = firstBadValue(schema, json, "");
  if (bad === undefined) return;
  const { field, description } = bad;
  throw new Fault("INVALID_FIELD", `${field === "" ? "the request" : field}: ${description}`, {
    violations: [bad],
  });
}

/** Messages with a JSON form of their own: nothing inside them is a field name. */
function hasOwnForm(schema: DescMessage): boolean {
  return schema.typeName.startsWith("google.protobuf.");
}

function unknownKeys(schema: DescMessage, json: JsonValue, path: string): FieldViolation[] {
  if (!isObject(json) || hasOwnForm(schema)) return [];
  return Object.entries(json).flatMap(([key, value]) => {
    const at = path === "" ? key : `${path}.${key}`;
    const field = fieldOf(schema, key);
    if (field === undefined) {
      const close = nearest(
        key,
        schema.fields.map((known) => known.jsonName),
      );
      const description = `${schema.name} has no field ${key}`;
      return [
        {
          field: at,
          description: close === undefined ? description : `${description}; did you mean ${close}?`,
        },
      ];
    }
    return children(field, value, at).flatMap((child) =>
      unknownKeys(child.schema, child.json, child.path),
    );
  });
}

/** The first value that its field does not take, looked for as deep as it stands. */
function firstBadValue(
  schema: DescMessage,
  json: JsonValue,
  path: string,
): FieldViolation | undefined {
  const error = decodingError(schema, json);
  if (error === undefined) return undefined;
  if (isObject(json) && !hasOwnForm(schema)) {
    for (const [key, value] of Object.entries(json)) {
      const field = fieldOf(schema, key);
      const alone = field && decodingError(schema, { [key]: value });
      if (field === undefined || alone === undefined) continue;
      const at = path === "" ? field.name : `${path}.${field.name}`;
      for (const child of children(field, value, at)) {
        const inside = firstBadValue(child.schema, child.json, child.path);
        if (inside !== undefined) return inside;
      }
      return { field: at, description: alone };
    }
  }
  return { field: path, description: error };
}

function decodingError(schema: DescMessage, json: JsonValue): string | undefined {
  try {
    fromJson(schema, json);
    return undefined;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return message.replace(/^.*?from JSON: /, "").replace(/^("|Array)/, "does not take $1");
  }
}

function fieldOf(schema: DescMessage, key: string): DescField | undefined {
  return schema.fields.find((field) => field.jsonName === key || field.name === key);
}

/** The messages inside a value of this field. */
function children(
  field: DescField,
  json: JsonValue,
  path: string,
): { readonly schema: DescMessage; readonly json: JsonValue; readonly path: string }[] {
  const schema = field.message;
  if (schema === undefined || json === null) return [];
  if (field.fieldKind === "list") {
    if (!Array.isArray(json)) return [];
    return json.map((item, index) => ({ schema, json: item, path: `${path}[${index}]` }));
  }
  if (field.fieldKind === "map") {
    if (!isObject(json)) return [];
    return Object.entries(json).map(([key, item]) => ({
      schema,
      json: item,
      path: `${path}[${JSON.stringify(key)}]`,
    }));
  }
  return [{ schema, json, path }];
}

function isObject(json: JsonValue): json is { [key: string]: JsonValue } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

import { getOption, hasOption } from "@bufbuild/protobuf";
import type { DescField, DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { authorization } from "@fastgpu/contracts/fastgpu/options/v1/options_pb";
import { fullNameOf } from "./adapter.ts";
import type { CallContext } from "./context.ts";
import type { BoundService } from "./handlers.ts";

/** Who may call a method; undefined for the transport's own services (health, reflection). */
export interface AccessRule {
  readonly public: boolean;
  readonly permission: string;
  /** Reads the resource name from a request; undefined where the method declares none. */
  readonly resource: ((message: Message) => string) | undefined;
  /** The path of the field that it reads, for messages. */
  readonly resourcePath: string;
}

/** A method with everything decided that can be decided before the first call. */
export interface MethodPlan {
  readonly method: DescMethod;
  readonly name: string;
  readonly handler: (request: unknown, context: CallContext) => unknown;
  readonly access: AccessRule | undefined;
}

/**
 * Prepares the methods of a service. Throws where a handler or the authorisation option is missing, or where the option
 * names a field that does not exist: such a server must not start.
 */
export function planService(
  bound: BoundService,
  options: { readonly open: boolean },
): MethodPlan[] {
  return bound.descriptor.methods.map((method) => {
    const handler = bound.handlers[method.localName];
    if (handler === undefined) throw new TypeError(`${fullNameOf(method)} has no handler`);
    return {
      method,
      name: fullNameOf(method),
      handler: handler.bind(bound.handlers) as MethodPlan["handler"],
      access: options.open ? undefined : accessRuleOf(method),
    };
  });
}

/** The rule that a method declares by `fastgpu.options.v1.authorization`. */
export function accessRuleOf(method: DescMethod): AccessRule {
  if (!hasOption(method, authorization)) {
    throw new TypeError(`${fullNameOf(method)} declares no authorization`);
  }
  const option = getOption(method, authorization);
  if (option.public === (option.permission !== "")) {
    throw new TypeError(`${fullNameOf(method)} must declare a permission or be public, not both`);
  }
  return {
    public: option.public,
    permission: option.permission,
    resource: option.resource === "" ? undefined : fieldReader(method, option.resource),
    resourcePath: option.resource,
  };
}

/** A function that reads the text field at `path` (`parent`, `header.parent`); "" where a part of the path is unset. */
function fieldReader(method: DescMethod, path: string): (message: Message) => string {
  const fields: DescField[] = [];
  let schema: DescMessage | undefined = method.input;
  for (const name of path.split(".")) {
    const field: DescField | undefined = schema?.fields.find(
      (candidate) => candidate.name === name,
    );
    if (field === undefined) throw new TypeError(`${fullNameOf(method)}: no field ${path}`);
    fields.push(field);
    schema = field.fieldKind === "message" ? field.message : undefined;
  }
  const last = fields.at(-1);
  if (last?.fieldKind !== "scalar")
    throw new TypeError(`${fullNameOf(method)}: ${path} is no text`);
  return (message) => {
    let value: unknown = message;
    for (const field of fields) value = valueOf(value, field);
    return typeof value === "string" ? value : "";
  };
}

function valueOf(message: unknown, field: DescField): unknown {
  if (typeof message !== "object" || message === null) return undefined;
  const record = message as Readonly<Record<string, unknown>>;
  if (field.oneof === undefined) return record[field.localName];
  const choice = record[field.oneof.localName] as { case?: string; value?: unknown } | undefined;
  return choice?.case === field.localName ? choice.value : undefined;
}

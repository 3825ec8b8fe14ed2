import { Fault } from "@fastgpu/domain/fault";
import { taskStates } from "@fastgpu/domain/states";

/** A condition on tasks as SQL: parameters are numbered from `firstParameter`. */
export interface SqlCondition {
  readonly text: string;
  readonly values: readonly unknown[];
}

const term = /^\s*([A-Za-z_][\w.-]*)\s*(!=|=|<|>|:)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)\s*/;
const fields = "state, display_name, create_time and labels.KEY";

/**
 * Parses the stated subset of AIP-160: terms joined by AND over indexed fields. Values reach SQL as parameters only.
 * Anything else is INVALID_FIELD with the place.
 */
export function parseFilter(filter: string, firstParameter: number): SqlCondition {
  const parts: string[] = [];
  const values: unknown[] = [];
  const parameter = (value: unknown): string => {
    values.push(value);
    return `$${firstParameter + values.length - 1}`;
  };
  let rest = filter.trim();
  while (rest !== "") {
    const match = term.exec(rest);
    const [whole, field, operator, raw] = match ?? [];
    if (whole === undefined || field === undefined || operator === undefined || raw === undefined) {
      throw refuse(`cannot be read at "${rest.slice(0, 40)}"`);
    }
    parts.push(condition({ field, operator, value: unquote(raw) }, parameter));
    rest = rest.slice(whole.length);
    if (rest === "") break;
    const and = /^AND\s+(?=\S)/.exec(rest);
    if (and === null) throw refuse(`wants AND before "${rest.slice(0, 40)}"`);
    rest = rest.slice(and[0].length);
  }
  return { text: parts.join(" and "), values };
}

function condition(
  of: { field: string; operator: string; value: string },
  parameter: (value: unknown) => string,
): string {
  const { field, operator, value } = of;
  if (field === "state") {
    const state = value.replace(/^TASK_STATE_/, "");
    if (!(taskStates as readonly string[]).includes(state)) {
      throw refuse(`state ${value} is none of ${taskStates.join(", ")}`);
    }
    return compare("state", only(of, ["=", "!="]), parameter(state));
  }
  if (field === "display_name") {
    if (operator === ":") return `strpos(display_name, ${parameter(value)}) > 0`;
    return compare("display_name", only(of, ["=", "!="]), parameter(value));
  }
  if (field === "create_time") {
    const ms = Date.parse(value);
    if (Number.isNaN(ms))
      throw refuse(`create_time ${value} is not a time such as 2026-01-31T12:00:00Z`);
    return compare("created_ms", only(of, ["<", ">", "="]), parameter(ms));
  }
  if (field.startsWith("labels.")) {
    const key = parameter(field.slice("labels.".length));
    if (operator === ":" && value === "*") return `labels ? ${key}::text`;
    const found = `labels ->> ${key}::text`;
    if (operator === "!=") return `${found} is distinct from ${parameter(value)}`;
    return compare(found, only(of, ["="]), parameter(value));
  }
  throw refuse(`${field} cannot be filtered by: use ${fields}`);
}

function only(of: { field: string; operator: string }, allowed: readonly string[]): string {
  if (!allowed.includes(of.operator)) {
    throw refuse(`${of.field} takes ${allowed.join(", ")}, not ${of.operator}`);
  }
  return of.operator;
}

const compare = (left: string, operator: string, right: string): string =>
  `${left} ${operator === "!=" ? "<>" : operator} ${right}`;

function unquote(raw: string): string {
  return raw.startsWith('"') ? raw.slice(1, -1).replaceAll(/\\(.)/g, "$1") : raw;
}

const refuse = (description: string): Fault =>
  Fault.invalid("filter", description, "example: state = RUNNING AND labels.team = vision");

import { stringify } from "yaml";

/** A value as YAML; loaded only where YAML was asked for. */
export function toYaml(value: unknown): string {
  return stringify(value);
}

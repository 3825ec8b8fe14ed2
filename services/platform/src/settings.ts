import { readFile } from "node:fs/promises";
import { Fault } from "@fastgpu/domain/fault";
import { parseConfig } from "@fastgpu/lifecycle/config";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { parse, stringify } from "yaml";
import { isServiceName, serviceNames, services, type ServiceName } from "./services.ts";

/** Sections of `fastgpu.yaml` by service, as written: not yet checked. */
export type Sections = Readonly<Partial<Record<ServiceName, Readonly<Record<string, unknown>>>>>;

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads `fastgpu.yaml`. An unknown section is refused with the nearest known one. */
export async function readSections(path: string): Promise<Sections> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new Fault("INVALID_FIELD", `cannot read the configuration file ${path}`, {
      hint: "give an existing file with --config FILE",
      cause: error,
    });
  });
  const root: unknown = parse(text) ?? {};
  if (typeof root !== "object" || root === null || Array.isArray(root)) {
    throw Fault.invalid(path, "must hold one mapping of sections");
  }
  for (const name of Object.keys(root)) {
    if (isServiceName(name)) continue;
    const suggestion = nearest(name, serviceNames);
    throw new Fault("UNKNOWN_FIELD", `${path}: unknown section ${name}`, {
      hint:
        suggestion === undefined
          ? `known: ${serviceNames.join(", ")}`
          : `did you mean ${suggestion}?`,
    });
  }
  return root as Sections;
}

/** One section, checked, with defaults filled in and the environment's overrides (`FASTGPU_SCHEDULER__LEASE_TTL_MS`). */
export async function settingsOf(
  name: ServiceName,
  of: { sections: Sections; env: Environment; source: string },
): Promise<object> {
  const schema = await services[name].schema();
  const text = stringify({ [name]: of.sections[name] ?? {} });
  // Overrides of the other sections are not this service's business.
  const prefix = `FASTGPU_${name.toUpperCase()}__`;
  const env = Object.fromEntries(Object.entries(of.env).filter(([key]) => key.startsWith(prefix)));
  const config = parseConfig({ [name]: schema }, { text, name: of.source, env });
  return config[name] as object;
}

/** Later sections over earlier ones, key by key. */
export function mergeSections(...all: readonly Sections[]): Sections {
  const merged: Partial<Record<ServiceName, Record<string, unknown>>> = {};
  for (const sections of all) {
    for (const name of serviceNames) {
      if (sections[name] !== undefined) merged[name] = { ...merged[name], ...sections[name] };
    }
  }
  return merged;
}

import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { effectiveFormat, printOne } from "../output/print.ts";

/** Settings whose values are secrets, by the end of their names; URLs may carry a password. */
const SECRET = /(password|token|secret|privatekeypem|key)$/i;

/**
 * `config print --services FILE`: the effective settings of every service that fastgpu.yaml
 * configures: its section, defaults filled in, variables applied, checked. Secrets are left out.
 */
export async function printServiceSettings(
  context: CliContext,
  options: CommonOptions & { services: string },
): Promise<void> {
  const { readSections, settingsOf } = await import("@fastgpu/platform/settings");
  const { serviceNames } = await import("@fastgpu/platform/services");
  const source = options.services;
  const sections = await readSections(source);
  const names = serviceNames.filter((name) => sections[name] !== undefined);
  if (names.length === 0) {
    throw new CliError(`${source} configures no service`, {
      why: `there are ${serviceNames.join(", ")}`,
    });
  }
  const effective: Record<string, unknown> = {};
  for (const name of names) {
    effective[name] = withoutSecrets(
      await settingsOf(name, { sections, env: context.env, source }),
    );
  }
  const print = printOptions(context, options);
  const format = effectiveFormat(print) === "table" ? "yaml" : print.format;
  await printOne(
    { ...print, format },
    { columns: [], id: () => names.join("\n"), json: (value) => value },
    effective,
  );
}

/** The same settings with each secret, and each password in a URL, replaced by dots. */
export function withoutSecrets(value: unknown, name = ""): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => withoutSecrets(item, name));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, withoutSecrets(inner, key)]),
    );
  }
  if (typeof value !== "string" || value === "") return value;
  if (SECRET.test(name)) return "…";
  return value.replace(/^(\w+:\/\/[^/@:]*):[^/@]*@/, "$1:…@");
}

import { nearest } from "@fastgpu/lifecycle/nearest";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { configPath, readConfig } from "./file.ts";

/** The gateway's address where nothing else is said. */
export const DEFAULT_ADDRESS = "127.0.0.1:7600";

/** What a command needs to reach a platform, and where each part came from. */
export interface Settings {
  /** The context in use; absent: none is configured. */
  context: string | undefined;
  /** Host and port. */
  address: string;
  key: string | undefined;
  /** `projects/{project}`; absent: the key's own. */
  project: string | undefined;
  /** `organizations/{organization}`; absent: the key's own. */
  organization: string | undefined;
  sources: Record<"context" | "address" | "key" | "project" | "organization", string>;
}

/** The flags that change settings, as given to any command. */
export interface SettingsFlags {
  context?: string | undefined;
  address?: string | undefined;
  project?: string | undefined;
  org?: string | undefined;
}

/** Settings in force: flag before environment before context before default. */
export function resolveSettings(
  flags: SettingsFlags,
  env: Readonly<Record<string, string | undefined>>,
): Settings {
  const path = configPath(env);
  const file = readConfig(path);
  const [name, nameSource] = firstOf(
    [flags.context, "--context"],
    [env["FASTGPU_CONTEXT"], "FASTGPU_CONTEXT"],
    [file.current, path],
  );
  const context = name === undefined ? undefined : file.contexts[name];
  if (name !== undefined && context === undefined)
    throw unknownContext(name, Object.keys(file.contexts));

  const fromFile = `context ${name}`;
  const [address, addressSource] = firstOf(
    [flags.address, "--address"],
    [env["FASTGPU_ADDRESS"], "FASTGPU_ADDRESS"],
    [context?.address, fromFile],
    [DEFAULT_ADDRESS, "default"],
  );
  const [key, keySource] = firstOf(
    [env["FASTGPU_API_KEY"], "FASTGPU_API_KEY"],
    [context?.key, fromFile],
  );
  // Another key may belong elsewhere: the context's project goes with the context's key only.
  const own = keySource === fromFile || key === undefined ? context : undefined;
  const [project, projectSource] = firstOf(
    [flags.project, "--project"],
    [env["FASTGPU_PROJECT"], "FASTGPU_PROJECT"],
    [own?.project, fromFile],
  );
  const [organization, organizationSource] = firstOf(
    [flags.org, "--org"],
    [env["FASTGPU_ORG"], "FASTGPU_ORG"],
    [own?.organization, fromFile],
  );
  return {
    context: name,
    address: address ?? DEFAULT_ADDRESS,
    key,
    project: project === undefined ? undefined : qualified("projects", project),
    organization: organization === undefined ? undefined : qualified("organizations", organization),
    sources: {
      context: nameSource,
      address: addressSource,
      key: keySource,
      project: projectSource,
      organization: organizationSource,
    },
  };
}

/** The first that is set and not empty, with its source. */
function firstOf(
  ...candidates: (readonly [value: string | undefined, source: string])[]
): readonly [string | undefined, string] {
  return (
    candidates.find(([value]) => value !== undefined && value !== "") ?? [undefined, "not set"]
  );
}

/** `proj-1` and `projects/proj-1` both as `projects/proj-1`. */
export function qualified(collection: string, name: string): string {
  return name.includes("/") ? name : `${collection}/${name}`;
}

/** The error for a context that is not in the file, with the nearest one that is. */
export function unknownContext(name: string, known: readonly string[]): CliError {
  const close = nearest(name, known);
  return new CliError(`there is no context "${name}"`, {
    why: known.length === 0 ? "none is configured yet" : `there are: ${known.join(", ")}`,
    hint: close === undefined ? "fastgpu config list" : `--context ${close}`,
    exitCode: exitCodes.configuration,
  });
}

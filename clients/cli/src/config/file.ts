import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";

const contextSchema = z.strictObject({
  /** Host and port of the gateway. */
  address: z.string().min(1),
  /** API key. */
  key: z.string().min(1).optional(),
  /** `projects/{project}`: where tasks and files go by default. */
  project: z.string().min(1).optional(),
  /** `organizations/{organization}`. */
  organization: z.string().min(1).optional(),
  /** Data directory, where the platform was started on this machine. */
  data: z.string().min(1).optional(),
});

const fileSchema = z.strictObject({
  /** Name of the context in use. */
  current: z.string().optional(),
  contexts: z.record(z.string(), contextSchema).default({}),
});

/** A platform, and who one is there. */
export type ConfigContext = z.infer<typeof contextSchema>;
/** The content of config.yaml. */
export type ConfigFile = z.infer<typeof fileSchema>;

type Environment = Readonly<Record<string, string | undefined>>;

/** $FASTGPU_CONFIG, else $XDG_CONFIG_HOME/fastgpu/config.yaml, else ~/.config/fastgpu/config.yaml. */
export function configPath(env: Environment): string {
  if (env["FASTGPU_CONFIG"]) return env["FASTGPU_CONFIG"];
  const base = env["XDG_CONFIG_HOME"] || join(env["HOME"] || homedir(), ".config");
  return join(base, "fastgpu", "config.yaml");
}

/** Reads the file; a missing one is empty. Throws a CliError where it is not what it should be. */
export function readConfig(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { contexts: {} };
    throw broken(path, (error as Error).message, error);
  }
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    throw broken(path, (error as Error).message.split("\n")[0] ?? "it is not YAML", error);
  }
  const parsed = fileSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw broken(path, `${issue?.path.join(".") || "the file"}: ${issue?.message}`, parsed.error);
}

function broken(path: string, why: string, cause: unknown): CliError {
  return new CliError(`the configuration in ${path} cannot be read`, {
    why,
    hint: `mend or remove ${path}; fastgpu config set writes a new one`,
    exitCode: exitCodes.configuration,
    cause,
  });
}

/**
 * Replaces the file in one step, readable by its owner alone: it holds keys. A reader finds the old
 * or the new content and never half of one.
 */
export function writeConfig(path: string, config: ConfigFile): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const draft = `${path}.${process.pid}.part`;
    const file = openSync(draft, "w", 0o600);
    try {
      writeFileSync(file, stringify(config));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    chmodSync(draft, 0o600);
    renameSync(draft, path);
  } catch (error) {
    throw new CliError(`the configuration cannot be written to ${path}`, {
      why: (error as Error).message,
      hint: "set FASTGPU_CONFIG to a file that can be written",
      exitCode: exitCodes.configuration,
      cause: error,
    });
  }
}

/** Adds or changes a context and makes it the current one. */
export function saveContext(path: string, name: string, context: ConfigContext): void {
  const config = readConfig(path);
  config.contexts[name] = { ...config.contexts[name], ...context };
  writeConfig(path, { ...config, current: name });
}

import { readFileSync } from "node:fs";
import {
  type ConfigContext,
  type ConfigFile,
  configPath,
  readConfig,
  saveContext,
  writeConfig,
} from "../config/file.ts";
import { DEFAULT_ADDRESS, qualified, resolveSettings, unknownContext } from "../config/settings.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { type View, printList, printOne } from "../output/print.ts";

interface NamedContext extends ConfigContext {
  name: string;
  current: boolean;
}

const contextView: View<NamedContext> = {
  columns: [
    { header: "current", value: (row) => (row.current ? "*" : " ") },
    { header: "name", value: (row) => row.name },
    { header: "address", value: (row) => row.address },
    { header: "key", value: (row) => hideKey(row.key) },
    { header: "project", value: (row) => row.project ?? "" },
    { header: "organization", value: (row) => row.organization ?? "", wide: true },
  ],
  id: (row) => row.name,
  json: ({ key, ...rest }) => ({ ...rest, key: hideKey(key) }),
};

/** The key with its secret left out: `fgpu_live_01j…` and nothing after the id. */
function hideKey(key: string | undefined): string {
  if (key === undefined) return "";
  const parts = key.split("_");
  return parts.length >= 4 ? `${parts.slice(0, 3).join("_")}_…` : "…";
}

/** `config list` */
export async function listContexts(context: CliContext, options: CommonOptions): Promise<void> {
  const file = readConfig(configPath(context.env));
  const rows = Object.entries(file.contexts).map(([name, entry]) => ({
    name,
    current: name === file.current,
    ...entry,
  }));
  await printList(
    printOptions(context, options),
    contextView,
    rows,
    "no contexts; fastgpu config set adds one",
  );
}

/** The configuration, which has this context. */
function configWith({ env }: CliContext, name: string): { path: string; file: ConfigFile } {
  const path = configPath(env);
  const file = readConfig(path);
  if (file.contexts[name] === undefined) throw unknownContext(name, Object.keys(file.contexts));
  return { path, file };
}

/** `config use NAME` */
export async function useContext(
  context: CliContext,
  _options: object,
  name: string,
): Promise<void> {
  const { path, file } = configWith(context, name);
  writeConfig(path, { ...file, current: name });
  context.terminal.err(`now using context ${name}\n`);
}

/** `config set [NAME] --address … --key … --project … --org …` */
export async function setContext(
  context: CliContext,
  options: { address?: string; key?: string; project?: string; org?: string },
  given?: string,
): Promise<void> {
  const path = configPath(context.env);
  const file = readConfig(path);
  const name = given ?? file.current ?? "default";
  const key = options.key === "-" ? readFileSync(0, "utf8").trim() : options.key;
  if (key !== undefined && !/^\S{1,256}$/.test(key)) {
    throw new CliError("the key is not one", {
      why: "a key is one word",
      hint: "fastgpu config set --key - < FILE",
    });
  }
  saveContext(path, name, {
    address: options.address ?? file.contexts[name]?.address ?? DEFAULT_ADDRESS,
    ...(key === undefined ? {} : { key }),
    ...(options.project === undefined ? {} : { project: qualified("projects", options.project) }),
    ...(options.org === undefined ? {} : { organization: qualified("organizations", options.org) }),
  });
  context.terminal.err(`context ${name} is written to ${path} and in use\n`);
}

/** `config remove NAME` */
export async function removeContext(
  context: CliContext,
  _options: object,
  name: string,
): Promise<void> {
  const { path, file } = configWith(context, name);
  const { [name]: _removed, ...contexts } = file.contexts;
  const { current, ...rest } = file;
  writeConfig(path, {
    ...rest,
    contexts,
    ...(current === undefined || current === name ? {} : { current }),
  });
  context.terminal.err(`context ${name} is removed\n`);
}

interface Setting {
  name: string;
  value: string;
  source: string;
}

const settingView: View<Setting> = {
  columns: [
    { header: "setting", value: (row) => row.name },
    { header: "value", value: (row) => row.value },
    { header: "source", value: (row) => row.source },
  ],
  id: (row) => row.name,
  json: (row) => row,
};

/** `config print` */
export async function printSettings(
  context: CliContext,
  options: CommonOptions & { services?: string },
): Promise<void> {
  const { services } = options;
  if (services !== undefined) {
    const { printServiceSettings } = await import("./service-config.ts");
    return await printServiceSettings(context, { ...options, services });
  }
  const settings = resolveSettings(options, context.env);
  const print = printOptions(context, options);
  const values = {
    context: settings.context ?? "",
    address: settings.address,
    key: hideKey(settings.key),
    project: settings.project ?? "",
    organization: settings.organization ?? "",
  };
  const rows = (["context", "address", "key", "project", "organization"] as const).map((name) => ({
    name,
    value: values[name],
    source: settings.sources[name],
  }));
  if (context.terminal.outIsTty || print.format === "table" || print.format === "wide") {
    await printList(print, settingView, rows, "");
    return;
  }
  const whole: View<typeof rows> = {
    columns: [],
    id: () => settings.context ?? "",
    json: (all) =>
      Object.fromEntries(all.map(({ name, value, source }) => [name, { value, source }])),
  };
  await printOne(print, whole, rows);
}

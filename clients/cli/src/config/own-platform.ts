import { type ConfigContext, readConfig, writeConfig } from "./file.ts";

/** Name of the first context that a platform on this machine gets. */
const FIRST_NAME = "local";

/** A context and what it is called. */
export interface NamedContext {
  name: string;
  context: ConfigContext;
}

/** The context of the platform with this data directory; undefined: none is kept here. */
export function ownContext(path: string, dataDir: string): NamedContext | undefined {
  const found = Object.entries(readConfig(path).contexts).find(([, { data }]) => data === dataDir);
  return found && { name: found[0], context: found[1] };
}

/**
 * Keeps how to reach the platform with this data directory, makes it the current context, and
 * returns its name: `local`, or `local-2` and so on where other data directories have those.
 */
export function keepOwnContext(
  path: string,
  dataDir: string,
  change: Omit<ConfigContext, "data">,
): string {
  const config = readConfig(path);
  const before = ownContext(path, dataDir);
  let name = before?.name ?? FIRST_NAME;
  for (let at = 2; before === undefined && config.contexts[name] !== undefined; at++)
    name = `${FIRST_NAME}-${at}`;
  config.contexts[name] = { ...before?.context, ...change, data: dataDir };
  writeConfig(path, { ...config, current: name });
  return name;
}

/** Removes the context of the platform with this data directory; returns its name, where there was one. */
export function forgetOwnContext(path: string, dataDir: string): string | undefined {
  const name = ownContext(path, dataDir)?.name;
  if (name === undefined) return undefined;
  const { current, contexts, ...rest } = readConfig(path);
  const { [name]: _removed, ...others } = contexts;
  const [next] = current === name ? Object.keys(others) : [current];
  writeConfig(path, {
    ...rest,
    contexts: others,
    ...(next === undefined ? {} : { current: next }),
  });
  return name;
}

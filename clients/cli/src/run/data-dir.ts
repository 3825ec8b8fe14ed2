import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Where a platform keeps its data unless told otherwise: `.fastgpu` of the checkout that this file
 * lies in, else `$XDG_DATA_HOME/fastgpu`, else `~/.local/share/fastgpu`.
 */
export function defaultDataDir(env: Readonly<Record<string, string | undefined>>): string {
  const checkout = checkoutOf(fileURLToPath(import.meta.url));
  if (checkout !== undefined) return join(checkout, ".fastgpu");
  return join(env["XDG_DATA_HOME"] || join(env["HOME"] || homedir(), ".local", "share"), "fastgpu");
}

function checkoutOf(path: string): string | undefined {
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, "proto", "buf.yaml"))) return folder;
  }
  return undefined;
}

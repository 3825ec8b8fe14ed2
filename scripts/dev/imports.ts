import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** The modules that a program loads, itself included: absolute paths, each with its text. */
export type Modules = ReadonlyMap<string, string>;

/** `from "x"`, `import "x"`, `import("x")` and `new URL("./x.ts", import.meta.url)`; what only names types loads nothing. */
const specifiers =
  /(?:^|[\s;}])(?:import|export)\s+(?!type\b)[^"';]*?from\s*"([^"]+)"|(?:^|\s)import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|new URL\(\s*"(\.[^"]+\.ts)"/gm;

/**
 * Follows the imports of our own modules from `entries`, below the repository's root. Others' packages are left out,
 * and so is what lies in one of the `without` folders, with all that only it loads.
 */
export function modulesOf(
  root: string,
  entries: readonly string[],
  without: readonly string[] = [],
): Modules {
  const found = new Map<string, string>();
  const waiting = [...entries];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const foreign = without.some((folder) => path.startsWith(`${folder}/`));
    if (foreign || found.has(path) || !existsSync(path)) continue;
    const text = readFileSync(path, "utf8");
    found.set(path, text);
    for (const match of text.matchAll(specifiers)) {
      const specifier = match[1] ?? match[2] ?? match[3] ?? match[4] ?? "";
      const next = fileOf(root, path, specifier);
      if (next !== undefined) waiting.push(next);
    }
  }
  return found;
}

function fileOf(root: string, from: string, specifier: string): string | undefined {
  if (specifier.startsWith(".")) return resolve(dirname(from), specifier);
  const [, name, rest] = /^@fastgpu\/([^/]+)\/(.+)$/.exec(specifier) ?? [];
  if (name === undefined || rest === undefined) return undefined;
  return ["libs", "services"]
    .map((folder) => join(root, folder, name, "src", `${rest}.ts`))
    .find((path) => existsSync(path));
}

/** Modules that were changed, added or taken away between two looks at a program. */
export function changedModules(before: Modules, after: Modules): string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].filter((path) => before.get(path) !== after.get(path)).toSorted();
}

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** Every package that the file and what it statically imports need. */
function staticPackages(file: string, seen = new Set<string>()): Set<string> {
  const packages = new Set<string>();
  if (seen.has(file)) return packages;
  seen.add(file);
  const imports = readFileSync(file, "utf8").matchAll(
    /^(?:import|export) (?!type )[^;]*?from "([^"]+)"/gms,
  );
  for (const [, name = ""] of imports) {
    if (name.endsWith(".json")) continue;
    if (!name.startsWith(".")) packages.add(name);
    else
      for (const inner of staticPackages(resolve(dirname(file), name), seen)) packages.add(inner);
  }
  return packages;
}

test("help needs no more than the argument parser: gRPC, YAML and schemas come with the command that uses them", () => {
  const packages = [...staticPackages(MAIN)].filter((name) => !name.startsWith("node:"));
  expect(packages.toSorted()).toEqual(["@fastgpu/domain/fault", "commander"]);
});

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { changedModules, modulesOf } from "../../../scripts/dev/imports.ts";

const scratch = mkdtempSync(join(tmpdir(), "fastgpu-dev-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function write(path: string, text: string): string {
  const full = join(scratch, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, text);
  return full;
}

describe("what `npm run dev` restarts", () => {
  const main = write(
    "services/a/src/main.ts",
    'import type { T } from "@fastgpu/lib/types";\n' +
      'import {\n  one,\n} from "@fastgpu/lib/one";\n' +
      'const two = () => import("./two.ts");\n' +
      'const child = new URL("./child.ts", import.meta.url);\n' +
      'import { Pool } from "pg";\n',
  );
  const one = write("libs/lib/src/one.ts", 'export { deep } from "./deep.ts";');
  const deep = write("libs/lib/src/deep.ts", "export const deep = 1;");
  const two = write("services/a/src/two.ts", 'import "@fastgpu/b/main";');
  const child = write("services/a/src/child.ts", "");
  const foreign = write("services/b/src/main.ts", 'import "@fastgpu/lib/foreign";');
  write("libs/lib/src/foreign.ts", "");
  write("libs/lib/src/types.ts", "export type T = 1;");
  const without = [dirname(dirname(foreign))];

  test("is what loads the changed module, itself or through others, and nothing else", () => {
    const before = modulesOf(scratch, [main], without);
    expect([...before.keys()].toSorted()).toEqual([child, deep, main, one, two].toSorted());
    write("libs/lib/src/foreign.ts", "export const changed = 1;");
    write("libs/lib/src/types.ts", "export type T = 2;");
    write("libs/lib/src/deep.ts", "export const deep = 1;");
    expect(changedModules(before, modulesOf(scratch, [main], without))).toEqual([]);
    write("libs/lib/src/deep.ts", "export const deep = 2;");
    expect(changedModules(before, modulesOf(scratch, [main], without))).toEqual([deep]);
  });

  test("follows the real tree: billing loads the ledger, the gateway does not", () => {
    const root = fileURLToPath(new URL("../../..", import.meta.url));
    const loads = (service: string, path: string): boolean =>
      modulesOf(root, [join(root, `services/${service}/src/main.ts`)]).has(join(root, path));
    expect(loads("billing", "libs/ledger/src/rate.ts")).toBe(true);
    expect(loads("gateway", "libs/ledger/src/rate.ts")).toBe(false);
  });
});

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * `npm run gen`: formats the protos and generates libs/contracts from them.
 * `npm run proto:release`: also takes the present contracts as the baseline of `buf breaking`.
 */
const root = fileURLToPath(new URL("..", import.meta.url));
const buf = join(root, "node_modules", ".bin", "buf");

function run(...args: readonly string[]): void {
  const { status } = spawnSync(buf, [...args], { cwd: join(root, "proto"), stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

run("format", "--path", "fastgpu", "-w");
run("generate");
if (process.argv.includes("--release")) run("build", "--path", "fastgpu", "-o", "baseline.binpb");

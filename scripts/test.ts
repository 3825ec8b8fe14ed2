import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeRunDirectory, removeRunDirectory } from "@fastgpu/testkit/run-directory";

const root = fileURLToPath(new URL("..", import.meta.url));
const results = join(root, "dist", "tests");

/** Runs a tool of the project and answers its exit code. */
function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, "node_modules", ".bin", command), [...args], {
      cwd: root,
      stdio: "inherit",
    });
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

interface Totals {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  success: boolean;
}

/** Adds up what each project's run wrote; nx restores the file of a run that nothing has changed since. */
function addUp(): { passed: number; failed: number; skipped: number } {
  const totals = { passed: 0, failed: 0, skipped: 0 };
  for (const name of readdirSync(results, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".json")) continue;
    const found = JSON.parse(readFileSync(join(results, name), "utf8")) as Totals;
    totals.passed += found.numPassedTests;
    // A file that cannot be loaded fails without a failed test in it.
    totals.failed += found.success ? 0 : Math.max(1, found.numFailedTests);
    totals.skipped += found.numPendingTests;
  }
  return totals;
}

const paths = process.argv.slice(2);
if (paths.length > 0) process.exit(await run("vitest", ["run", ...paths]));

rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
// One Postgres and one nats-server for all projects; they start when a test first asks.
const directory = await makeRunDirectory();
process.env["FASTGPU_TEST_RUN"] = directory;
let code = 1;
try {
  code = await run("nx", ["run-many", "-t", "test", "--parallel=1", "--outputStyle=stream"]);
} finally {
  await removeRunDirectory(directory);
}
const { passed, failed, skipped } = addUp();
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(code === 0 && failed === 0 && passed > 0 ? 0 : 1);

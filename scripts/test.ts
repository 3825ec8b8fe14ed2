import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { beginRun } from "@fastgpu/testkit/run-directory";

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

/** What one project's run wrote. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  success: boolean;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

/** The reports of all projects; nx restores the file of a run that nothing has changed since. */
function reports(): Report[] {
  return readdirSync(results, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".json"))
    .map((name) => JSON.parse(readFileSync(join(results, name), "utf8")) as Report);
}

function addUp(found: readonly Report[]): { passed: number; failed: number; skipped: number } {
  const totals = { passed: 0, failed: 0, skipped: 0 };
  for (const report of found) {
    totals.passed += report.numPassedTests;
    // A file that cannot be loaded fails without a failed test in it.
    totals.failed += report.success ? 0 : Math.max(1, report.numFailedTests);
    totals.skipped += report.numPendingTests;
  }
  return totals;
}

/** Each failure again, with its file and its first lines: what a long log is searched for. */
function* failures(found: readonly Report[]): Generator<string> {
  const indented = (text: string) => text.split("\n").slice(0, 30).join("\n    ");
  for (const file of found.flatMap((report) => report.testResults)) {
    const path = relative(root, file.name);
    const failed = file.assertionResults.filter(({ status }) => status === "failed");
    for (const test of failed)
      yield `${path}: ${test.fullName}\n    ${indented(test.failureMessages.join("\n"))}`;
    if (failed.length === 0 && file.status === "failed")
      yield `${path}\n    ${indented(file.message)}`;
  }
}

const paths = process.argv.slice(2);
if (paths.length > 0) process.exit(await run("vitest", ["run", ...paths]));

rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
// One Postgres and one nats-server for all projects; they start when a test first asks.
const endRun = await beginRun();
let code = 1;
try {
  code = await run("nx", ["run-many", "-t", "test", "--parallel=1", "--outputStyle=stream"]);
} finally {
  await endRun().catch((error: unknown) => {
    code = 1;
    console.log(`FAILED ${String(error)}`);
  });
}
const found = reports();
for (const failure of failures(found)) console.log(`FAILED ${failure}`);
const { passed, failed, skipped } = addUp(found);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(code === 0 && failed === 0 && passed > 0 ? 0 : 1);

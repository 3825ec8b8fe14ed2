import { spawnSync } from "node:child_process";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** One project's tests, for nx: the figures go to dist/tests, where `npm test` adds them up. */
const root = fileURLToPath(new URL("..", import.meta.url));
const project = relative(root, process.cwd());
const name = process.env["NX_TASK_TARGET_PROJECT"] ?? project;
const { status } = spawnSync(
  join(root, "node_modules", ".bin", "vitest"),
  [
    "run",
    "--passWithNoTests",
    "--reporter=default",
    "--reporter=json",
    `--outputFile=${join(root, "dist", "tests", `${name}.json`)}`,
    `${project}/`,
  ],
  { cwd: root, stdio: "inherit" },
);
process.exit(status ?? 1);

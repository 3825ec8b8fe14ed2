// Runs a script of the project, or one of its tools with --bin, under the pinned Node.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { ensureInstalled, pinnedNode, projectEnv, root } from "./bootstrap.mjs";

ensureInstalled();
const [first, ...rest] = process.argv.slice(2);
const [command, ...args] =
  first === "--bin"
    ? [join(root, "node_modules", ".bin", rest[0]), ...rest.slice(1)]
    : [pinnedNode(), join(root, first), ...rest];
const child = spawn(command, args, { stdio: "inherit", env: projectEnv() });
// From a terminal the whole group gets Ctrl-C, so it is passed on only where it was sent to us alone.
process.on("SIGINT", () => {
  if (!process.stdin.isTTY) child.kill("SIGINT");
});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.once("error", (error) => {
  process.stderr.write(`error: ${command} could not be started: ${error.message}\n`);
  process.exit(69);
});
child.once("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));

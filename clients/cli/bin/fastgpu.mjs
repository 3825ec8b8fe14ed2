#!/usr/bin/env node
// Plain JavaScript for any Node from version 20: hands over to the Node that the project pins.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const OLDEST_MAJOR = 24;

const own = fileURLToPath(import.meta.url);
const major = Number.parseInt(process.versions.node, 10);

if (major >= OLDEST_MAJOR) {
  // Keeps the compiled form of every module, TypeScript included: half of the start-up time.
  const { enableCompileCache } = await import("node:module");
  enableCompileCache();
  const { main } = await import("../src/main.ts");
  await main();
} else {
  handOver();
}

/** Runs this file again under the pinned Node, found beside or above it. */
function handOver() {
  const pinned = findPinnedNode();
  if (pinned === undefined) {
    process.stderr.write(
      `error: Node ${process.versions.node} is too old for FastGPU\n` +
        `  why: it needs Node ${OLDEST_MAJOR}, and the one that the project pins is not installed\n` +
        "  try: npm install\n",
    );
    process.exit(69);
  }
  const args = [own, ...process.argv.slice(2)];
  const child = spawn(pinned, args, { stdio: "inherit" });
  // From a terminal the whole group gets Ctrl-C, so it is passed on only where it was sent to us alone.
  process.on("SIGINT", () => {
    if (!process.stdin.isTTY) child.kill("SIGINT");
  });
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => {
    process.stderr.write(
      `error: the pinned Node could not be started: ${error.message}\n  try: npm install\n`,
    );
    process.exit(69);
  });
  child.once("exit", (code, signal) => {
    process.exit(code ?? 128 + (constants.signals[signal] ?? 0));
  });
}

/** @returns {string | undefined} */
function findPinnedNode() {
  const name = `node-linux-${process.arch}`;
  for (let folder = dirname(own); ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name, "bin", "node");
    if (existsSync(candidate)) return candidate;
    if (folder === dirname(folder)) return undefined;
  }
}

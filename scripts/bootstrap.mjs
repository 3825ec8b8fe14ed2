// Plain JavaScript for any Node from version 20: installs what is missing and finds the pinned Node.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const stamp = join(root, "node_modules", ".fastgpu-installed");
const lock = join(root, ".fastgpu-installing");

/** Installs the locked dependencies unless they are there; several starts at once wait for the first. */
export function ensureInstalled() {
  if (installed()) return;
  while (!takeLock()) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    if (installed()) return;
  }
  try {
    if (installed()) return;
    process.stderr.write("installing dependencies (npm install) …\n");
    const npm = process.env.npm_execpath;
    const [command, ...args] = npm?.endsWith(".js") ? [process.execPath, npm] : ["npm"];
    // Not `npm ci`: it refuses a lock file that lacks packages of other platforms, which a registry that is still
    // catching up with a release gives. What the lock file names is installed as it says.
    const flags = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
    const { status } = spawnSync(command, [...args, ...flags], {
      cwd: root,
      stdio: ["ignore", 2, 2],
    });
    if (status !== 0) {
      process.stderr.write(
        "error: npm install failed\n  try: npm install, and read what it says\n",
      );
      process.exit(69);
    }
    writeFileSync(stamp, lockHash());
  } finally {
    rmdirSync(lock);
  }
}

/** The Node that the project pins; the system's where there is none for this machine. */
export function pinnedNode() {
  const path = join(root, "node_modules", `node-linux-${process.arch}`, "bin", "node");
  return existsSync(path) ? path : process.execPath;
}

/** The environment of everything that the project's scripts start: the pinned Node and the tools first on PATH. */
export function projectEnv() {
  const path = [join(pinnedNode(), ".."), join(root, "node_modules", ".bin"), process.env.PATH];
  return { ...process.env, PATH: path.join(":"), NX_DAEMON: "false", NX_TUI: "false" };
}

function installed() {
  return existsSync(stamp) && readFileSync(stamp, "utf8") === lockHash();
}

function lockHash() {
  return createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
}

function takeLock() {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    // A killed installation leaves its lock: after ten minutes nobody is behind it.
    if (Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0) > 600_000) {
      rmdirSync(lock);
    }
    return false;
  }
}

#!/usr/bin/env node
// Makes the image localhost/busybox from this machine's static busybox, without a registry:
//   node scripts/busybox-image.mjs [NAME]
// Needs podman (or docker) and a statically linked busybox (Debian: busybox-static).
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const name = process.argv[2] ?? "localhost/busybox:latest";

function fail(message, hint) {
  process.stderr.write(`busybox-image: ${message}\ntry: ${hint}\n`);
  process.exit(1);
}

const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
if (busybox === undefined) fail("no busybox here", "apt-get install busybox-static");
const engine = ["podman", "docker"].find((tool) => spawnSync(tool, ["--version"]).status === 0);
if (engine === undefined) fail("no container engine here", "apt-get install podman runc");

const root = mkdtempSync(join(tmpdir(), "fastgpu-busybox-"));
try {
  for (const dir of ["bin", "tmp", "etc", "proc", "sys", "dev", "work", "fastgpu"]) {
    mkdirSync(join(root, dir));
  }
  cpSync(busybox, join(root, "bin", "busybox"));
  const tools = execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const tool of tools.filter((each) => each !== "busybox")) {
    symlinkSync("busybox", join(root, "bin", tool));
  }
  const tar = execFileSync("tar", ["-C", root, "-c", "."], { maxBuffer: 64 * 1024 * 1024 });
  const made = spawnSync(engine, ["import", "-", name], { input: tar, encoding: "utf8" });
  if (made.status !== 0) fail(made.stderr.trim(), `${engine} info`);
  process.stdout.write(`${name}\n`);
} finally {
  rmSync(root, { recursive: true, force: true });
}

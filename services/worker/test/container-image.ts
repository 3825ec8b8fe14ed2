import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { findEngine } from "../src/runtime/container/service.ts";

const busybox = ["/bin/busybox", "/usr/bin/busybox"].find(
  (path) => spawnSync(path, ["true"]).status === 0,
);
export const serviceDir = mkdtempSync(join(tmpdir(), "fastgpu-engine-"));
export const address = findEngine({ ownSocket: join(serviceDir, "podman.sock") });
export const skipReason =
  address === undefined
    ? "no container engine (podman or docker) here"
    : busybox === undefined
      ? "no busybox to make an image of"
      : undefined;
if (skipReason !== undefined) console.log(`container tests skipped: ${skipReason}`);
export const image = "localhost/fastgpu-test-busybox:latest";

/** An image of one static busybox, as a tar stream. */
export function busyboxTar(): Readable {
  const root = mkdtempSync(join(tmpdir(), "fastgpu-image-"));
  for (const dir of ["bin", "tmp", "etc", "proc", "sys", "dev", "work", "fastgpu"]) {
    mkdirSync(join(root, dir));
  }
  cpSync(busybox ?? "", join(root, "bin", "busybox"));
  for (const tool of [
    "sh",
    "cat",
    "echo",
    "sleep",
    "ls",
    "id",
    "touch",
    "tail",
    "kill",
    "unshare",
    "true",
  ]) {
    execFileSync("ln", ["-s", "busybox", join(root, "bin", tool)]);
  }
  return Readable.from(execFileSync("tar", ["-C", root, "-c", "."], { maxBuffer: 1e8 }));
}

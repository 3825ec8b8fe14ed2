import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCli } from "./run-cli.ts";

const podman = spawnSync("podman", ["info"], { stdio: "ignore" }).status === 0;
const shell = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
if (!podman || shell === undefined)
  console.log("left out: image import needs podman and busybox on this machine");

const NAME = `localhost/fastgpu-import-test:${process.pid}`;

describe.skipIf(!podman || shell === undefined)("image import", () => {
  const folder = mkdtempSync(join(tmpdir(), "cli-image-"));
  const rootfs = join(folder, "rootfs.tar");
  beforeAll(() => {
    mkdirSync(join(folder, "root", "bin"), { recursive: true });
    copyFileSync(shell ?? "", join(folder, "root", "bin", "busybox"));
    execFileSync("tar", ["-C", join(folder, "root"), "-cf", rootfs, "."]);
  });
  afterAll(() => {
    spawnSync("podman", ["rmi", "--force", NAME, `${NAME}-again`], { stdio: "ignore" });
    rmSync(folder, { recursive: true, force: true });
  });

  test("makes an image of a root file system, and of what save wrote", async () => {
    const imported = await runCli(["image", "import", NAME, rootfs]);
    expect(imported).toMatchObject({ code: 0, stderr: `${NAME} is in podman\n` });
    expect(spawnSync("podman", ["image", "exists", NAME]).status).toBe(0);

    const saved = join(folder, "saved.tar");
    execFileSync("podman", ["save", "--output", saved, NAME], { stdio: "ignore" });
    const again = await runCli(["image", "import", `${NAME}-again`, saved]);
    expect(again.code).toBe(0);
    const id = (name: string) =>
      execFileSync("podman", ["image", "inspect", "--format", "{{.Id}}", name], {
        encoding: "utf8",
      });
    expect(id(`${NAME}-again`)).toBe(id(NAME));
  });
});

test("image import says what is wrong with a file, or with an engine", async () => {
  const missing = await runCli(["image", "import", "localhost/x", "/no/such.tar"]);
  expect(missing.code).toBe(64);
  expect(missing.stderr).toContain("/no/such.tar does not exist");
  const engine = await runCli([
    "image",
    "import",
    "localhost/x",
    "/proc/self/status",
    "--engine",
    "podmn",
  ]);
  expect(engine.stderr).toContain('"podmn" is not an engine');
});

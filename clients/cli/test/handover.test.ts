import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../bin/fastgpu.mjs", import.meta.url));

/** A Node older than the pinned one, where this machine has one on its usual paths. */
function olderNode(): string | undefined {
  return ["/usr/bin/node", "/usr/local/bin/node"].find((path) => {
    const { stdout } = spawnSync(path, ["--version"], { encoding: "utf8" });
    const major = Number.parseInt(stdout?.slice(1) ?? "", 10);
    return major >= 20 && major < 24;
  });
}

const node = olderNode();
if (node === undefined)
  console.log("left out: this machine has no Node between 20 and 23 beside the pinned one");

describe.skipIf(node === undefined)("under an older Node", () => {
  const run = (...args: string[]) =>
    spawnSync(node ?? "", [BIN, ...args], {
      encoding: "utf8",
      env: { PATH: "", HOME: mkdtempSync(join(tmpdir(), "cli-home-")), TMPDIR: tmpdir() },
    });

  test("the pinned one takes over, with arguments, output and exit code", () => {
    expect(run("--version")).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
    const wrong = run("task", "get", "two words");
    expect(wrong.status).toBe(64);
    expect(wrong.stderr).toContain('"two words" is not the id of a task');
  });
});

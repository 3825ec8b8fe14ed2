import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withoutSections } from "./elf.ts";

const SCRIPT = fileURLToPath(new URL("../bundle-gpu.ts", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "bundle-gpu-"));
const here = join(scratch, "fastgpu-gpu-linux-x64");
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Runs the unpacked program as a bare machine would: no PATH, nothing in the environment. */
function run(...args: string[]) {
  return spawnSync(join(here, "fastgpu"), args, {
    encoding: "utf8",
    env: { PATH: "", HOME: scratch },
    cwd: scratch,
  });
}

describe.skipIf(process.arch !== "x64")("the archive for machines with GPUs", () => {
  const archive = join(scratch, "bundle.tar.gz");
  beforeAll(() => {
    execFileSync(process.execPath, [SCRIPT, archive], { stdio: "pipe" });
    execFileSync("tar", ["-C", scratch, "-xzf", archive]);
  });

  test("has at most 50 MB", () => {
    expect(statSync(archive).size).toBeLessThanOrEqual(50_000_000);
  });

  test("runs the command line with an empty PATH and nothing beside it", () => {
    expect(run("--version")).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
    const help = run("task", "run", "--help");
    expect(help.stdout).toContain("--gpus <n>");
    expect(run("config", "set", "there", "--address", "gpu.example:7600").status).toBe(0);
    expect(run("config", "list", "-o", "yaml").stdout).toContain("address: gpu.example:7600");
    // Through gRPC: the address does not answer, and that is what it says.
    const unreachable = spawnSync(join(here, "fastgpu"), ["task", "list"], {
      encoding: "utf8",
      env: { PATH: "", HOME: scratch, FASTGPU_ADDRESS: "127.0.0.1:1", FASTGPU_API_KEY: "k" },
    });
    expect(unreachable.status).toBe(69);
    expect(unreachable.stderr).toContain("the platform at 127.0.0.1:1 cannot be reached");
  });

  test("runs the worker, which says what it needs to join a platform", () => {
    expect(run("service", "worker", "--help").stdout).toContain("FASTGPU_WORKER__JOIN_TOKEN");
    const settings = [
      "directory=worker",
      "scheduler=127.0.0.1:1",
      "auth=127.0.0.1:1",
      "storage=127.0.0.1:1",
    ];
    const started = run("service", "worker", ...settings.flatMap((setting) => ["--set", setting]));
    expect(started.status).not.toBe(0);
    expect(started.stderr).toContain("worker.joinToken: is needed for a worker's first start");
  });

  test("looks at GPUs through its own koffi", () => {
    const { status, stdout } = run("doctor", "--gpu", "-o", "json");
    const checks = JSON.parse(stdout) as { name: string; status: string; detail: string }[];
    expect(checks[0]?.name).toBe("driver");
    if (status === 0) expect(checks.map(({ name }) => name)).toContain("computation");
    else expect(checks.some((check) => check.status === "failed")).toBe(true);
    expect(JSON.stringify(checks)).not.toContain("koffi");
  });

  test("trains the digits with its own Node", () => {
    const train = join(here, "examples", "digits", "src", "train.mjs");
    const { status, stdout } = spawnSync(join(here, "lib", "node"), [train, "--epochs", "1"], {
      encoding: "utf8",
      env: { FASTGPU_OUTPUT_DIR: join(scratch, "out") },
    });
    expect(stdout).toContain("test accuracy");
    expect(status).toBe(0);
  });

  test("has the worker's keeper where the worker looks for it, and names all licences", () => {
    expect(readdirSync(join(here, "lib"))).toContain("keeper.js");
    const licences = readFileSync(join(here, "lib", "LICENSES.txt"), "utf8");
    for (const name of ["@grpc/grpc-js", "@bufbuild/protobuf", "commander", "yaml"]) {
      expect(licences).toMatch(new RegExp(`^${name} \\d`, "m"));
    }
  });
});

describe("an ELF program without its sections", () => {
  test("is shorter and runs as before", () => {
    const source = process.execPath;
    const short = withoutSections(readFileSync(source));
    const path = join(scratch, "node-short");
    writeFileSync(path, short);
    chmodSync(path, 0o755);
    expect(short.length).toBeLessThan(statSync(source).size);
    expect(execFileSync(path, ["-p", "6 * 7"], { encoding: "utf8" })).toBe("42\n");
  });

  test("must be one", () => {
    expect(() =>
      withoutSections(Buffer.from("#!/bin/sh\necho a long enough script of text to be read\n")),
    ).toThrow(RangeError);
  });
});

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const FOLDER = fileURLToPath(new URL("..", import.meta.url));
const build = mkdtempSync(join(tmpdir(), "cuda-example-"));
const program = join(build, "fastgpu-cuda-example");
afterAll(() => rmSync(build, { recursive: true, force: true }));

function run(command: string, args: string[], environment: Record<string, string> = {}) {
  return spawnSync(command, args, {
    cwd: FOLDER,
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
}

/** Says on the test's output why something is not tested on this machine. */
function missing(reason: string): true {
  console.log(`left out: ${reason}`);
  return true;
}

const make = run("make", ["--version"]).status === 0;
const nvcc = process.env["NVCC"] ?? (run("nvcc", ["--version"]).status === 0 ? "nvcc" : undefined);
const noMake = !make && missing("make is not installed");
const noNvcc =
  (!nvcc || !make) && missing("nvcc is not installed, so the CUDA example is not built");
const noGpu =
  !existsSync("/dev/nvidiactl") && missing("no NVIDIA driver, so the kernels do not run");

describe.skipIf(noMake)("where nvcc is missing", () => {
  test("make says so, why it matters and what to do, and fails", () => {
    const made = run("make", ["NVCC=", `BUILD=${build}`]);
    expect(made.status).not.toBe(0);
    expect(made.stderr).toContain("nvcc was not found");
    expect(made.stderr).toMatch(/why: .*NVIDIA's compiler/);
    expect(made.stderr).toMatch(/try: install the CUDA toolkit/);
    expect(existsSync(program)).toBe(false);
  });
});

describe.skipIf(noNvcc)("where nvcc is found", () => {
  beforeAll(() => {
    const made = run("make", [`NVCC=${nvcc}`, `BUILD=${build}`]);
    expect(made.stderr).toBe("");
    expect(made.status).toBe(0);
  });

  test("the program refuses a simulated GPU", () => {
    const ran = run(program, [], { FASTGPU_GPU_SIMULATED: "1" });
    expect(ran.status).toBe(3);
    expect(ran.stderr).toContain("the leased GPU is simulated");
  });

  test.each([["0"], ["many"], ["5x"], ["10", "9000"]])(
    "the program refuses the size %s %s",
    (...sizes) => {
      const ran = run(program, sizes.filter(Boolean));
      expect(ran.status).toBe(2);
      expect(ran.stderr).toContain("Usage:");
    },
  );

  test.skipIf(!noGpu)("the program says that there is no device", () => {
    const ran = run(program, []);
    expect(ran.status).toBe(3);
    expect(ran.stderr).toContain("no CUDA device");
  });

  test.skipIf(noGpu)("the kernels agree with the CPU, also for sizes that no block divides", () => {
    for (const sizes of [["1", "1"], ["1000003", "257"], []]) {
      const progress = join(build, `progress-${sizes.join("-")}.ndjson`);
      const ran = run(program, sizes, {
        FASTGPU_OUTPUT_DIR: build,
        FASTGPU_PROGRESS_FILE: progress,
      });
      expect(ran.stderr).toBe("");
      expect(ran.status).toBe(0);
      const results = JSON.parse(readFileSync(join(build, "results.json"), "utf8"));
      expect(results.right).toBe(true);
      expect(results.multiply.worstError).toBeLessThan(1e-4);
      const lines = readFileSync(progress, "utf8").trim().split("\n");
      expect(lines.map((line) => JSON.parse(line).step)).toEqual([1, 2]);
    }
  });
});

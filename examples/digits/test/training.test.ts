import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";

const TRAIN = fileURLToPath(new URL("../src/train.mjs", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "digits-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

interface Progress {
  step: number;
  of: number;
  metrics: { loss: number; accuracy: number; train_accuracy: number };
}

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
  progress: Progress[];
}

/** Runs the program as a worker would: progress on descriptor 3, a stop signal after a given step. */
function train(options: {
  args?: string[];
  environment?: Record<string, string>;
  stopAfterStep?: number;
}): Promise<Run> {
  const child = spawn(process.execPath, [TRAIN, ...(options.args ?? [])], {
    env: { FASTGPU_PROGRESS_FD: "3", ...options.environment },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const run: Run = { code: null, stdout: "", stderr: "", progress: [] };
  child.stdout?.on("data", (bytes: Buffer) => (run.stdout += bytes.toString()));
  child.stderr?.on("data", (bytes: Buffer) => (run.stderr += bytes.toString()));
  createInterface({ input: child.stdio[3] as Readable }).on("line", (line) => {
    const progress = JSON.parse(line) as Progress;
    run.progress.push(progress);
    if (progress.step === options.stopAfterStep) child.kill("SIGTERM");
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ ...run, code }));
  });
}

function folders(name: string): {
  environment: Record<string, string>;
  output: string;
  checkpoint: string;
} {
  const output = join(root, name, "output");
  const checkpoint = join(root, name, "checkpoint");
  return {
    environment: { FASTGPU_OUTPUT_DIR: output, FASTGPU_CHECKPOINT_DIR: checkpoint },
    output,
    checkpoint,
  };
}

describe("the digits example", () => {
  test("learns the digits: at least 95 % of images never learned from", async () => {
    const { environment, output } = folders("whole");
    const run = await train({ environment: { ...environment, FASTGPU_GPU_SIMULATED: "1" } });

    expect(run.stderr).toBe("");
    expect(run.code).toBe(0);
    expect(run.stdout).toContain("GPU: simulated");
    const metrics = JSON.parse(readFileSync(join(output, "metrics.json"), "utf8"));
    expect(metrics.accuracy).toBeGreaterThanOrEqual(0.95);
    expect(metrics.gpuSimulated).toBe(true);
    expect(metrics.testImages).toBe(360);
    // Accuracy counted again from the confusion matrix, which must hold every test image once.
    const confusion: number[][] = metrics.confusion;
    expect(confusion.flat().reduce((sum, count) => sum + count, 0)).toBe(360);
    const right = confusion.reduce((sum, row, digit) => sum + (row[digit] ?? 0), 0);
    expect(right / 360).toBe(metrics.accuracy);
    expect(run.progress.map((line) => line.step)).toEqual(
      Array.from({ length: 20 }, (_, at) => at + 1),
    );
    expect(run.progress.every((line) => line.of === 20)).toBe(true);
    expect(run.progress.at(-1)?.metrics.accuracy).toBe(metrics.accuracy);
    expect(run.progress.at(-1)?.metrics.loss).toBeLessThan(run.progress[0]?.metrics.loss ?? 0);
  });

  test("stopped twice and resumed, it ends with the very model of an unbroken run", async () => {
    const args = ["--epochs", "6"];
    const whole = folders("unbroken");
    const broken = folders("broken");
    expect((await train({ args, environment: whole.environment })).code).toBe(0);

    const first = await train({ args, environment: broken.environment, stopAfterStep: 2 });
    expect(first.code).toBe(75);
    expect(existsSync(join(broken.output, "model.json"))).toBe(false);
    const second = await train({ args, environment: broken.environment, stopAfterStep: 4 });
    expect(second.stdout).toContain("resumed from the checkpoint");
    expect(second.code).toBe(75);
    const third = await train({ args, environment: broken.environment });
    expect(third.code).toBe(0);

    for (const file of ["model.json", "metrics.json"]) {
      expect(readFileSync(join(broken.output, file), "utf8")).toBe(
        readFileSync(join(whole.output, file), "utf8"),
      );
    }
    const steps = [first, second, third].flatMap((run) => run.progress.map((line) => line.step));
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("a stop without a checkpoint directory has its own exit code", async () => {
    const run = await train({
      args: ["--epochs", "50"],
      environment: { FASTGPU_OUTPUT_DIR: join(root, "none") },
      stopAfterStep: 1,
    });
    expect(run.code).toBe(76);
  });

  test("a broken checkpoint, or one of other options, is not used and not silently", async () => {
    const { environment, checkpoint } = folders("unusable");
    expect((await train({ args: ["--epochs", "1"], environment })).code).toBe(0);

    const other = await train({ args: ["--epochs", "2"], environment });
    expect(other.code).toBe(0);
    expect(other.stderr).toContain("the checkpoint cannot be used (it was made with");
    expect(other.progress.map((line) => line.step)).toEqual([1, 2]);

    writeFileSync(join(checkpoint, "checkpoint.json"), '{"version":1,"opt');
    const torn = await train({ args: ["--epochs", "1"], environment });
    expect(torn.code).toBe(0);
    expect(torn.stderr).toContain("starting anew");
  });

  test("progress goes to a file where that is what is asked for", async () => {
    const file = join(root, "progress.ndjson");
    const run = await train({
      args: ["--epochs", "2"],
      environment: {
        FASTGPU_PROGRESS_FD: "",
        FASTGPU_PROGRESS_FILE: file,
        FASTGPU_OUTPUT_DIR: join(root, "file"),
      },
    });
    expect(run.code).toBe(0);
    const lines = readFileSync(file, "utf8").trim().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as Progress).step)).toEqual([1, 2]);
  });

  test.each([
    [["--epochs", "0"], "--epochs must be a whole number from 1"],
    [["--learning-rate", "fast"], "--learning-rate must be a number"],
    [["--epoch", "3"], "--epoch"],
  ])("refuses %j", async (args, message) => {
    const run = await train({ args });
    expect(run.code).toBe(2);
    expect(run.stderr).toContain(message);
  });
});

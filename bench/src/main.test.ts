/** The command of the experiments as it is typed: wrong calls end at once, in words. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const entry = fileURLToPath(new URL("./main.ts", import.meta.url));
let directory = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-"));
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function bench(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, ...args], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

const synthetic = ["philly", "--synthetic", "5", "--gpus", "64", "--policies", "fifo"];

test.each([
  [[...synthetic, "--json", "/dev/null/rows"], "cannot write /dev/null/rows: ENOTDIR"],
  [[...synthetic, "--html=/dev/null/page"], "cannot write /dev/null/page: ENOTDIR"],
  [[...synthetic, "--seed", "x"], '--seed: "x" is not a number'],
  [["philly", "--trace", "/dev/null/t"], "cannot read /dev/null/t: ENOTDIR"],
  [["placement", "--bogus"], "Unknown option '--bogus'"],
  [["placement"], "--nodes is missing"],
  [["memory", "--tasks", "many"], '--tasks: "many" is not a number'],
  [["plan", "--gpus", "many"], '--gpus: "many" is not a number'],
  [["recording", "--fleet", "large"], '"large" is no group of nodes'],
])("%j is refused before anything is measured", async (args, message) => {
  const { code, out, err } = await bench(...args);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(`error: ${message}`);
  expect(err).toMatch(new RegExp(`\\ntry: npm run bench -- ${args[0]} --help\\n$`));
});

test("jobs wider than the smallest pool are left out of all, and counted", async () => {
  const trace = join(directory, "trace.csv");
  const json = join(directory, "rows.json");
  const widths = [1, 128, 1, 64];
  const lines = widths.map((width) => `2017-10-09 07:00:00,3600,${width},vc`);
  await writeFile(trace, `timestamp,duration,num_gpus,cluster\n${lines.join("\n")}`);
  const flags = ["philly", "--trace", trace, "--policies", "fifo", "--json", json, "--gpus"];
  const ended = await bench(...flags, "64,512");
  expect(ended).toMatchObject({ code: 0, err: "" });
  expect(ended.out).toContain(
    "left out: 1 of 4 jobs, which want up to 128 GPUs; the smallest pool has 64",
  );
  const rows = (await readFile(json, "utf8")).trim().split("\n");
  expect(rows.map((row) => JSON.parse(row) as unknown)).toMatchObject([
    { policy: "fifo", gpus: 64, jobs: 3 },
    { policy: "fifo", gpus: 512, jobs: 3 },
  ]);
  expect((await bench(...flags, "0")).err).toContain('--gpus: "0" is not a number from 1');
});

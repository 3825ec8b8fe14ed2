import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** `npm run check`: everything about the sources that needs no running service. `--fix` mends what can be mended. */
const root = fileURLToPath(new URL("..", import.meta.url));
const bin = (name: string): string => join(root, "node_modules", ".bin", name);
const tsc = join(root, "node_modules", "typescript-native", "bin", "tsc");
const fix = process.argv.includes("--fix");

/** A core package is compiled by itself: without Node's types a use of the world does not compile. */
const corePackages = ["domain", "ledger", "scheduling", "simulation"];

interface Step {
  readonly name: string;
  run(): Promise<Outcome>;
}
interface Outcome {
  readonly ok: boolean;
  readonly output: string;
}

function command(name: string, program: string, args: readonly string[], cwd = root): Step {
  return {
    name,
    run: () =>
      new Promise((resolve) => {
        const child = spawn(program, [...args], { cwd, stdio: ["ignore", "pipe", "pipe"] });
        let output = "";
        const collect = (chunk: Buffer): void => {
          output += chunk.toString();
        };
        child.stdout.on("data", collect);
        child.stderr.on("data", collect);
        child.once("error", (error) => resolve({ ok: false, output: String(error) }));
        child.once("exit", (code) => resolve({ ok: code === 0, output }));
      }),
  };
}

/** Generates the contracts into a copy and compares: what is checked in must be what the protos say. */
const drift: Step = {
  name: "generated code is up to date",
  run: () => {
    const copy = mkdtempSync(join(tmpdir(), "fastgpu-gen-"));
    try {
      cpSync(join(root, "proto"), join(copy, "proto"), { recursive: true });
      const options = { cwd: join(copy, "proto"), encoding: "utf8" } as const;
      const path = {
        ...process.env,
        PATH: `${join(root, "node_modules", ".bin")}:${process.env["PATH"]}`,
      };
      const made = spawnSync(bin("buf"), ["generate"], { ...options, env: path });
      if (made.status !== 0) return Promise.resolve({ ok: false, output: made.stderr });
      const { status, stdout } = spawnSync(
        "diff",
        ["-rq", join(copy, "libs/contracts/src"), join(root, "libs/contracts/src")],
        { encoding: "utf8" },
      );
      const hint = "run npm run gen, and commit what it changes\n";
      return Promise.resolve({ ok: status === 0, output: status === 0 ? "" : stdout + hint });
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  },
};

/** The rule of which layer may know which goes by nx's graph of the projects, and finds nothing where there is none yet. */
const lint: Step = {
  name: "lint",
  run: async () => {
    const graph = await command("projects", bin("nx"), ["show", "projects"]).run();
    if (!graph.ok) return graph;
    return command("lint", bin("oxlint"), ["--type-aware", ...(fix ? ["--fix"] : [])]).run();
  },
};

const steps: readonly Step[] = [
  command("types", process.execPath, [tsc, "-p", "tsconfig.json"]),
  ...corePackages.map((name) =>
    command(`types of libs/${name} alone`, process.execPath, [tsc, "-p", `libs/${name}`]),
  ),
  lint,
  command("format", bin("oxfmt"), fix ? ["."] : ["--check", "."]),
  command("dead code", bin("knip"), ["--no-progress", "--no-config-hints"]),
  command(
    "proto format",
    bin("buf"),
    ["format", "--path", "fastgpu", "--exit-code", ...(fix ? ["-w"] : ["-d"])],
    join(root, "proto"),
  ),
  command("proto lint", bin("buf"), ["lint"], join(root, "proto")),
  command(
    "proto breaking",
    bin("buf"),
    ["breaking", "--against", "baseline.binpb", "--exclude-imports"],
    join(root, "proto"),
  ),
  drift,
];

async function runAll(): Promise<number> {
  const waiting = [...steps];
  let failed = 0;
  const lane = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      const { ok, output } = await step.run();
      console.log(`${ok ? "✓" : "✗"} ${step.name}`);
      if (!ok) {
        failed += 1;
        console.log(output.trimEnd().replaceAll(/^/gm, "    "));
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, lane));
  return failed;
}

const failed = await runAll();
console.log(failed === 0 ? "all checks passed" : `${failed} checks failed`);
process.exit(failed === 0 ? 0 : 1);

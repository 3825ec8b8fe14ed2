import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { progressLine } from "../output/progress-line.ts";

const ENGINES = ["podman", "docker"] as const;
type Engine = (typeof ENGINES)[number];

/**
 * `image import NAME TAR`: hands the file to the container engine of this machine, where this
 * machine's workers find it. A root file system becomes an image of that name; what `save` wrote
 * keeps its own layers and is given the name.
 */
export async function importImage(
  context: CliContext,
  options: { engine?: string },
  name: string,
  tar: string,
): Promise<void> {
  if (!existsSync(tar)) throw new CliError(`${tar} does not exist`);
  const engine = pickEngine(options.engine);
  const { terminal } = context;
  using line = progressLine(terminal, `importing ${name} into ${engine}`);
  if (await isSavedImage(tar)) {
    const loaded = await runEngine(engine, ["load", "--input", tar]);
    const source = /Loaded image(?:\(s\))?(?: ID)?: *(\S+)/.exec(loaded)?.[1];
    if (source === undefined) {
      throw new CliError(`${engine} does not say what it loaded`, {
        why: loaded,
        exitCode: exitCodes.internal,
      });
    }
    line.say(`naming it ${name}`);
    await runEngine(engine, ["tag", source, name]);
  } else {
    await runEngine(engine, ["import", tar, name]);
  }
  terminal.err(`${name} is in ${engine}\n`);
}

function pickEngine(wanted: string | undefined): Engine {
  const known = ENGINES.find((engine) => engine === wanted);
  if (wanted !== undefined && known === undefined) {
    throw new CliError(`"${wanted}" is not an engine`, {
      why: `it can be ${ENGINES.join(" or ")}`,
    });
  }
  const found =
    known ??
    ENGINES.find((engine) => spawnSync(engine, ["--version"], { stdio: "ignore" }).status === 0);
  if (found !== undefined) return found;
  throw new CliError("there is no container engine on this machine", {
    why: "neither podman nor docker is on PATH",
    hint: "apt-get install podman; fastgpu doctor checks the rest",
    exitCode: exitCodes.unavailable,
  });
}

/** Whether a tar file is what `save` writes (docker archive or OCI layout), not a root file system. */
async function isSavedImage(tar: string): Promise<boolean> {
  const list = spawn("tar", ["--list", "--file", tar], { stdio: ["ignore", "pipe", "ignore"] });
  const { createInterface } = await import("node:readline");
  try {
    for await (const entry of createInterface({ input: list.stdout })) {
      if (/^(\.\/)?(manifest\.json|index\.json|oci-layout)$/.test(entry)) return true;
    }
  } finally {
    list.kill();
  }
  return false;
}

async function runEngine(engine: Engine, args: readonly string[]): Promise<string> {
  const child = spawn(engine, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (errors += bytes.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("close", resolve);
    child.once("error", (cause) =>
      reject(
        new CliError(`${engine} cannot be run`, {
          why: cause.message,
          exitCode: exitCodes.unavailable,
          cause,
        }),
      ),
    );
  });
  if (code === 0) return output;
  throw new CliError(`${engine} ${args[0]} failed`, {
    why: errors.trim() || `exit code ${code}`,
    exitCode: exitCodes.refused,
  });
}

import { spawn } from "node:child_process";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { tmpdir } from "node:os";
import { expect } from "vitest";
import type { TestPlatform } from "./harness.ts";

const program = fileURLToPath(new URL("../../../clients/cli/bin/fastgpu.mjs", import.meta.url));

/** Where and as whom a command is typed; another key than the first may type it. */
type Terminal = Pick<TestPlatform, "directory" | "key"> & {
  readonly platform: { readonly address: string };
};

/** Types a command as it was printed, and expects it to do what it should; answers what it printed. */
export async function type(on: Terminal, command: string): Promise<string> {
  const { code, out, err } = await outcomeOf(on, command);
  expect({ command, code, err: code === 0 ? "" : err }).toEqual({ command, code: 0, err: "" });
  return out;
}

/** How a command ended, typed in a shell with `fastgpu` on its path. */
export async function outcomeOf(on: Terminal, command: string) {
  const bin = join(on.directory, "bin");
  await mkdir(bin, { recursive: true });
  await writeFile(
    join(bin, "fastgpu"),
    `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`,
  );
  await chmod(join(bin, "fastgpu"), 0o755);
  const child = spawn("sh", ["-c", command], {
    env: {
      PATH: `${bin}:${process.env["PATH"]}`,
      HOME: on.directory,
      TMPDIR: tmpdir(),
      FASTGPU_ADDRESS: on.platform.address,
      FASTGPU_API_KEY: on.key,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (bytes: Buffer) => (out += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (err += bytes.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, out, err };
}

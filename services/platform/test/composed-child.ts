import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { ComposedOptions } from "./composed-platform.ts";
import type { Reachable } from "./harness.ts";

const program = fileURLToPath(new URL("./composed-platform.ts", import.meta.url));

/** A platform in a process of its own, to be killed. */
export interface ComposedChild {
  readonly child: ChildProcess;
  readonly reach: Reachable;
}

/** Starts the whole platform as one child process; resolves when it serves. */
export async function startComposed(options: ComposedOptions): Promise<ComposedChild> {
  const child = spawn(process.execPath, [program, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  for await (const line of createInterface(child.stdout)) {
    return { child, reach: JSON.parse(line) as Reachable };
  }
  throw new Error(`the platform ended before it served, with ${child.exitCode}`);
}

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { freePort } from "@fastgpu/lifecycle/child";
import type { ComposedOptions } from "./composed-platform.ts";
import {
  openClients,
  openDirectory,
  shortLeases,
  type Clients,
  type Reachable,
} from "./harness.ts";

const program = fileURLToPath(new URL("./composed-platform.ts", import.meta.url));

/** A platform in a process of its own. */
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

/** A platform in one process that can be killed, with clients that outlive it. */
export interface Killable extends Clients, AsyncDisposable {
  /** The one that runs now. */
  readonly platform: Reachable;
  readonly directory: string;
  /** SIGKILL to the whole of it, and a new start on the same data. */
  killAndRestart(): Promise<void>;
}

/** Starts one with short leases in a directory that is removed at the end. */
export async function startKillable(
  prefix: string,
  fleet: Pick<ComposedOptions, "workers" | "simulatedGpus">,
): Promise<Killable> {
  await using stack = new AsyncDisposableStack();
  const directory = await openDirectory(prefix);
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const [gateway, workers, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
  const start = () =>
    startComposed({
      ...fleet,
      dataDir: join(directory, "data"),
      ports: { gateway, workers, metrics },
      ...{ runtime: "process", logLevel: "fatal" },
      env: { PATH: process.env["PATH"], HOME: directory, ...shortLeases },
    });
  let current = await start();
  stack.defer(async () => {
    const ended = once(current.child, "exit");
    current.child.stdin?.end();
    await ended;
  });
  const clients = openClients(current.reach);
  stack.defer(() => clients.close());
  const owned = stack.move();
  return {
    ...clients,
    directory,
    get platform() {
      return current.reach;
    },
    async killAndRestart() {
      const killed = once(current.child, "exit");
      current.child.kill("SIGKILL");
      const [, signal] = (await killed) as [number | null, string | null];
      if (signal !== "SIGKILL") throw new Error(`the platform had ended before, with ${signal}`);
      current = await start();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

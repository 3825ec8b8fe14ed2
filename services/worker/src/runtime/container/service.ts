import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { EngineAddress } from "../../keeper/wire.ts";

/** The service leaves after this long without a request, in seconds: an idle platform stays small. */
const idleSeconds = 20;
const starting = new Map<string, Promise<void>>();

/**
 * Finds a container engine: a socket named in the configuration, a known podman or Docker socket, or an installed
 * podman that will be started on demand at `ownSocket`. Undefined where there is none.
 */
export function findEngine(options: {
  ownSocket: string;
  configured?: EngineAddress | undefined;
}): EngineAddress | undefined {
  if (options.configured !== undefined) return options.configured;
  const podmanSockets = ["/run/podman/podman.sock"];
  const { XDG_RUNTIME_DIR: runtimeDir } = userRuntimeDir();
  if (runtimeDir !== undefined) podmanSockets.push(join(runtimeDir, "podman", "podman.sock"));
  for (const socket of podmanSockets) if (isSocket(socket)) return { kind: "podman", socket };
  if (findPodman() !== undefined) return { kind: "podman", socket: options.ownSocket };
  if (isSocket("/var/run/docker.sock")) return { kind: "docker", socket: "/var/run/docker.sock" };
  return undefined;
}

function isSocket(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

const toolDirs = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];

function findTool(name: string): string | undefined {
  return toolDirs.map((dir) => join(dir, name)).find((path) => existsSync(path));
}

/** The podman program, where it is installed. */
export function findPodman(): string | undefined {
  return findTool("podman");
}

/** Makes sure that somebody serves podman's API at `socket`; starts `podman system service` where nobody does. */
export async function ensurePodmanService(socket: string): Promise<void> {
  if (await answers(socket)) return;
  const running = starting.get(socket) ?? startService(socket);
  starting.set(socket, running);
  await running.finally(() => starting.delete(socket));
}

function answers(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return Promise.resolve(false);
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
}

async function startService(socket: string): Promise<void> {
  const podman = findPodman();
  if (podman === undefined) throw new Error(`no container engine answers at ${socket}`);
  // Own session: it must go on when the worker goes, since the keeper enforces deadlines through it.
  const child = spawn(
    podman,
    ["system", "service", "--time", String(idleSeconds), `unix://${socket}`],
    {
      cwd: "/",
      detached: true,
      stdio: "ignore",
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: homedir(),
        ...userRuntimeDir(),
        ...engineConfig(dirname(socket)),
      },
    },
  );
  let failed: Error | undefined;
  child.once("error", (error) => (failed = error));
  child.once("exit", (code) => (failed = new Error(`podman system service ended with ${code}`)));
  child.unref();
  for (let waitedMs = 0; waitedMs < 10_000; waitedMs += 20) {
    if (await answers(socket)) return;
    // Another process may have won the race for the socket: then its service answers above.
    if (failed !== undefined && waitedMs > 1_000) throw failed;
    await sleep(20);
  }
  throw new Error("podman system service does not answer");
}

/** Where the system keeps an ordinary user's sockets. */
function userRuntimeDir(): Record<string, string> {
  const dir = `/run/user/${process.getuid?.() ?? 0}`;
  return existsSync(dir) ? { XDG_RUNTIME_DIR: dir } : {};
}

/**
 * A configuration of our own: the distribution's may name a runtime that refuses this machine's control groups
 * (crun on hybrid ones), and rootless defaults may exceed the hard limits here.
 */
function engineConfig(dir: string): Record<string, string> {
  const hybrid = !existsSync("/sys/fs/cgroup/cgroup.controllers");
  if (!hybrid || findTool("runc") === undefined) return {};
  const path = join(dir, "containers.conf");
  writeFileSync(
    path,
    '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n[engine]\nruntime="runc"\n',
    { mode: 0o600 },
  );
  return { CONTAINERS_CONF: path };
}

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Launch } from "../runtime/port.ts";
import { quote } from "./task-script.ts";

/** What this machine allows, found out once by trying. */
export interface SandboxHost {
  readonly sh: string;
  /** Of util-linux: sets the death signal, so that attempts die with their keeper. */
  readonly setpriv: string;
  /** `unshare` with all flags that work here; empty = no namespaces. */
  readonly unshare: readonly string[];
  /** Flags of setpriv that take privileges away. */
  readonly drop: readonly string[];
  readonly ip: string | undefined;
  readonly mount: string | undefined;
  /** Names of what is in force, reported with each attempt. */
  readonly isolation: readonly string[];
}

const namespaceFlags = ["--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts"];
const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Tries the strongest sandbox first. Throws where not even the death signal can be set. */
export function probeSandbox(): SandboxHost {
  const setpriv = findTool("setpriv");
  const sh = findTool("sh");
  if (setpriv === undefined || sh === undefined || !works([setpriv, "--pdeathsig", "KILL"])) {
    throw new Error("processes need sh and setpriv (util-linux)");
  }
  const strong = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"];
  const unshare = probeUnshare();
  const inUser = unshare.includes("--user");
  const capsDropped = inUser || works([setpriv, ...strong]);
  const mount = findTool("mount");
  const tmpfs = `exec ${mount} -t tmpfs tmpfs /tmp`;
  const hides = mount !== undefined && works([...unshare, sh, "-c", tmpfs], unshare.length > 0);
  return {
    sh,
    setpriv,
    unshare,
    drop: capsDropped ? strong : ["--no-new-privs"],
    ip: findTool("ip"),
    mount: hides ? mount : undefined,
    isolation: [
      "own_session",
      "death_signal",
      "no_new_privs",
      ...(capsDropped ? ["no_capabilities"] : []),
      ...(unshare.length === 0 ? [] : ["pid_ns", "ipc_ns", "uts_ns", "mount_ns"]),
      ...(inUser ? ["user_ns"] : []),
      ...(hides ? ["hidden_folders"] : []),
    ],
  };
}

function probeUnshare(): string[] {
  const unshare = findTool("unshare");
  if (unshare === undefined) return [];
  for (const user of [[], ["--user", "--map-current-user", "--keep-caps"]]) {
    const command = [unshare, ...user, ...namespaceFlags];
    if (works([...command, "--net"])) return command;
  }
  return [];
}

function works(command: readonly string[], possible = true): boolean {
  const [program, ...args] = command;
  if (program === undefined || !possible) return false;
  const result = spawnSync(program, [...args, "true"], {
    stdio: "ignore",
    timeout: 5_000,
    env: { PATH: hostPath },
  });
  return result.status === 0;
}

function findTool(name: string): string | undefined {
  return hostPath
    .split(":")
    .map((dir) => join(dir, name))
    .find((path) => isExecutable(path));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** A program that was looked for; `why` is for the task's owner and says what to do. */
export type FoundProgram =
  | { readonly kind: "found"; readonly path: string }
  | { readonly kind: "unusable"; readonly why: string };

/** The program of a launch as an absolute path, looked up as a shell in the task's own environment would. */
export function resolveProgram(launch: Launch, workdir: string): FoundProgram {
  const [program] = launch.command;
  if (program === undefined || program === "") return { kind: "unusable", why: "empty command" };
  const searched = launch.env["PATH"] ?? hostPath;
  const candidates = program.includes("/")
    ? [resolve(workdir, program)]
    : searched.split(":").map((dir) => resolve(workdir, dir, program));
  const path = candidates.find((candidate) => isExecutable(candidate));
  if (path !== undefined) return { kind: "found", path };
  const there = candidates.find((candidate) => existsSync(candidate));
  if (there !== undefined) {
    const why = statSync(there).isDirectory()
      ? `cannot execute ${there}: it is a folder`
      : `permission denied to execute ${there}: make it executable (chmod +x) or name its interpreter first`;
    return { kind: "unusable", why };
  }
  const where = program.includes("/") ? "" : ` in PATH (${searched})`;
  const hint = "processes run from the worker's own file system: install it there or use an image";
  return { kind: "unusable", why: `command not found: ${program}${where}; ${hint}` };
}

/** What one sandbox needs. */
export interface SandboxRequest {
  readonly host: SandboxHost;
  /** File with the folders that the task must not see, see {@link hideTable}; undefined = none. */
  readonly table: string | undefined;
}

/** Says that it waits, reads the name of a script and becomes what that says. */
const waitScript = 'echo waits >&5; IFS= read -r f <&4 || exit 125; . "$f"';

/**
 * The whole chain: die with the keeper → namespaces → limits, hide folders → drop privileges → a shell that waits. Each
 * link replaces the one before; only unshare and the shell stay. Control groups are joined once it waits.
 */
export function sandboxCommand({ host, table }: SandboxRequest): {
  command: string[];
  isolation: string[];
} {
  const net = host.unshare.length > 0;
  const lines = ["ulimit -c 0", "ulimit -n 65536 2>/dev/null || ulimit -n $(ulimit -Hn)"];
  if (net && host.ip !== undefined) lines.push(`${host.ip} link set lo up 2>/dev/null`);
  if (host.mount !== undefined && table !== undefined) {
    lines.push(`${host.mount} --all --fstab ${quote(table)} || exit 125`);
  }
  lines.push('exec "$@"');
  const drop = [host.setpriv, ...host.drop, "--", host.sh, "-c", waitScript];
  const inner = [host.sh, "-c", lines.join("\n"), "sh", ...drop];
  return {
    command: [
      ...[host.setpriv, "--pdeathsig", "KILL"],
      // Mounts that the machine gets later reach a sandbox that waits; its own stay inside.
      ...(net ? [...host.unshare, "--net", "--propagation", "slave"] : []),
      ...inner,
    ],
    isolation: [...host.isolation, ...(net ? ["net_ns"] : [])],
  };
}

/** The folders to hide, for one call of mount. The source's name is ours: mount skips what is mounted already. */
export function hideTable(folders: readonly string[]): string {
  const escaped = (path: string): string =>
    path.replaceAll(/[\\\s#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return folders
    .map((path) => `fastgpu-hidden ${escaped(path)} tmpfs size=4k,mode=000 0 0\n`)
    .join("");
}

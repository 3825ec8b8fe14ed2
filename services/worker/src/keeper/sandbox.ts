import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Launch } from "../runtime/port.ts";

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

/** What one sandboxed command needs. */
export interface SandboxRequest {
  readonly host: SandboxHost;
  readonly launch: Launch;
  /** `cgroup.procs` files to join first. */
  readonly joins: readonly string[];
  readonly workdir: string;
  /** Folders that the task must not see. */
  readonly hide: readonly string[];
  /** The command inside, its program already absolute. */
  readonly command: readonly string[];
}

/** Runs its arguments and stays as the parent that reaps what they leave behind. */
export const initScript = '"$@"; exit $?';

/**
 * The whole chain: join control groups → limits → die with the keeper → namespaces → hide folders → drop privileges
 * → the command. Each link replaces the one before; only unshare and the init shell stay.
 */
export function sandboxCommand(request: SandboxRequest): {
  command: string[];
  isolation: string[];
} {
  const { host, launch } = request;
  const net = launch.network === "none" && host.unshare.length > 0;
  const outer = [
    ...request.joins.map((path) => `echo 0 > ${quote(path)} || exit 125`),
    "ulimit -c 0",
    "ulimit -n 65536 2>/dev/null || ulimit -n $(ulimit -Hn)",
    `cd ${quote(request.workdir)} || exit 125`,
    `exec ${host.setpriv} --pdeathsig KILL "$@"`,
  ].join("\n");
  const drop = [host.setpriv, ...host.drop, "--"];
  const inner =
    host.unshare.length === 0
      ? [...drop, ...request.command]
      : [
          ...host.unshare,
          ...(net ? ["--net"] : []),
          host.sh,
          "-c",
          insideScript(request, net),
          "sh",
          ...drop,
          ...request.command,
        ];
  return {
    command: [host.sh, "-c", outer, "sh", ...inner],
    isolation: [...host.isolation, ...(net ? ["net_ns"] : [])],
  };
}

function insideScript(request: SandboxRequest, net: boolean): string {
  const { host } = request;
  const lines: string[] = [];
  if (net && host.ip !== undefined) lines.push(`${host.ip} link set lo up 2>/dev/null`);
  if (host.mount !== undefined) {
    for (const path of request.hide.filter((p) => existsSync(p))) {
      lines.push(
        `${host.mount} -t tmpfs -o size=4k,mode=000 tmpfs ${quote(path)} 2>/dev/null || exit 125`,
      );
    }
  }
  lines.push('exec "$@"');
  return lines.join("\n");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { promisify } from "node:util";
import { Fault } from "@fastgpu/domain/fault";

/** A user of this machine. */
export interface MachineUser {
  readonly uid: number;
  readonly gid: number;
}

const run = promisify(execFile);

/** Looks up a user by name; `undefined` if there is none. */
export async function findUser(name: string): Promise<MachineUser | undefined> {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", name]), run("id", ["-g", name])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

/** Makes a system user without a home or shell, with whichever tool this machine has. */
export async function createSystemUser(name: string): Promise<MachineUser> {
  const attempts: readonly (readonly [string, readonly string[]])[] = [
    [
      "useradd",
      ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
    ],
    ["adduser", ["-S", "-D", "-H", "-s", "/sbin/nologin", name]],
  ];
  const errors: unknown[] = [];
  for (const [command, args] of attempts) {
    try {
      await run(command, [...args]);
    } catch (error) {
      errors.push(error);
    }
    const user = await findUser(name);
    if (user !== undefined) return user;
  }
  throw new Fault("UNAVAILABLE", `cannot make the system user ${name}`, {
    hint: `make it yourself (useradd --system ${name}) or run FastGPU as an ordinary user`,
    cause: new AggregateError(errors),
  });
}

/**
 * The first directory on the way to `path` (itself included, if it exists) that `user` may not
 * enter, or `undefined` when all are open. Looks at mode bits; an ACL could say otherwise.
 */
export async function closedParent(path: string, user: MachineUser): Promise<string | undefined> {
  const chain: string[] = [];
  for (let at = resolve(path); ; at = dirname(at)) {
    chain.unshift(at);
    if (dirname(at) === at) break;
  }
  for (const directory of chain) {
    const info = await stat(directory).catch(() => undefined);
    if (info === undefined) return undefined;
    if (!info.isDirectory()) continue;
    const bit = info.uid === user.uid ? 0o100 : info.gid === user.gid ? 0o010 : 0o001;
    if ((info.mode & bit) === 0) return directory;
  }
  return undefined;
}

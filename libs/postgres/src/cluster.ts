import { createHash, randomBytes } from "node:crypto";
import { chown, mkdir, readdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { closedParent } from "@fastgpu/lifecycle/reach";
import type { MachineUser } from "@fastgpu/lifecycle/reach";
import { endClusterProcesses } from "./cluster-processes.ts";

/** Clusters whose data directory their user cannot enter live here. */
const ELSEWHERE = "/var/lib/fastgpu/pg";
const POINTER = "cluster.path";

/**
 * Decides where the cluster of a data directory lives: inside it (`DIR/cluster`), or, where a
 * parent is closed to the database's user, in a directory of its own below /var/lib/fastgpu/pg, with
 * a pointer file in it.
 * A cluster elsewhere names its data directory, so that a copied directory is refused instead of
 * two platforms sharing one database; a moved one is followed.
 */
export async function placeCluster(
  dataDir: string,
  user: MachineUser | undefined,
  elsewhere: string = ELSEWHERE,
): Promise<string> {
  await mkdir(dataDir, { recursive: true, mode: 0o755 });
  const home = await realpath(dataDir);
  const inside = join(home, "cluster");
  const pointed = await readPointer(home);
  if (pointed !== undefined) {
    await claim(pointed, home);
    return pointed;
  }
  if (user === undefined || (await exists(inside))) return inside;
  if ((await closedParent(home, user)) === undefined) return inside;

  // The directory's name alone will not do: one that was removed and made again must not find the old database.
  const hash = createHash("sha256").update(home).digest("hex").slice(0, 16);
  await removeOrphans(elsewhere, hash, home);
  const place = join(elsewhere, `${hash}-${randomBytes(4).toString("hex")}`, "cluster");
  await mkdir(dirname(place), { recursive: true, mode: 0o755 });
  await claim(place, home);
  await writeFile(join(home, POINTER), `${place}\n`);
  return place;
}

/** Removes what a data directory of this name left elsewhere when it was removed by hand. */
async function removeOrphans(elsewhere: string, hash: string, home: string): Promise<void> {
  const names = await readdir(elsewhere).catch(() => []);
  for (const name of names.filter((each) => each.startsWith(hash))) {
    const owner = await readFile(join(elsewhere, name, "data-directory"), "utf8").catch(() => "");
    if (owner.trim() !== home) continue;
    await endClusterProcesses(join(elsewhere, name, "cluster"));
    await rm(join(elsewhere, name), { recursive: true, force: true });
  }
}

/** Removes a data directory's cluster, wherever it lives, and ends a server that a crash left on it. */
export async function removeCluster(dataDir: string): Promise<void> {
  const home = await realpath(dataDir).catch(() => undefined);
  if (home === undefined) return;
  const pointed = await readPointer(home);
  await endClusterProcesses(pointed ?? join(home, "cluster"));
  if (pointed !== undefined) await rm(dirname(pointed), { recursive: true, force: true });
  await rm(home, { recursive: true, force: true });
}

/** Makes an empty directory for initdb, owned by the database's user. */
export async function makeClusterDir(path: string, user: MachineUser | undefined): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (user !== undefined) await chown(path, user.uid, user.gid);
}

async function readPointer(home: string): Promise<string | undefined> {
  const text = await readFile(join(home, POINTER), "utf8").catch(() => undefined);
  return text?.trim();
}

async function claim(place: string, home: string): Promise<void> {
  const file = join(dirname(place), "data-directory");
  const owner = (await readFile(file, "utf8").catch(() => undefined))?.trim();
  if (owner === home) return;
  if (owner !== undefined && (await readPointer(owner)) === place) {
    throw new Fault(
      "ILLEGAL_STATE",
      `${home} is a copy of ${owner}, whose database lives in ${place}`,
      {
        hint: `remove ${join(home, POINTER)} to start with an empty database`,
      },
    );
  }
  await mkdir(dirname(place), { recursive: true, mode: 0o755 });
  await writeFile(file, `${home}\n`);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

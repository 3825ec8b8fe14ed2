import { join } from "node:path";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { migrate } from "@fastgpu/postgres/migrate";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement } from "@fastgpu/postgres/pool";
import { processInfo } from "@fastgpu/lifecycle/child";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startNats } from "./nats.ts";
import { startDatabase } from "./postgres.ts";

const migrations = fileURLToPath(new URL("../../../scheduler/migrations", import.meta.url));
const count = statement<{ n: bigint }>("count", "SELECT count(*) AS n FROM tasks");

const start = (dataDir: string) =>
  startDatabase({
    dataDir,
    services: ["scheduler"],
    password: (role) => `${role} secret`,
    log: quiet,
  });

test("the database of a data directory serves its services, and again after a restart", async () => {
  const dataDir = join(await scratchDirectory(), "data");
  {
    await using database = await start(dataDir);
    const urls = database.urls["scheduler"];
    if (urls === undefined) throw new Error("no URLs");
    const options = {
      ownerUrl: urls.owner,
      service: "scheduler",
      directory: migrations,
      log: quiet,
    };
    expect(await migrate(options)).toBeGreaterThan(1);
    expect(await migrate(options)).toBe(0);
  }
  await using database = await start(dataDir);
  await using pools = openDatabase({
    service: "scheduler",
    urls: database.urls["scheduler"]!,
    log: quiet,
  });
  expect(await pools.core.query(count)).toEqual([{ n: 0n }]);
});

test("a nats-server that a killed platform left is ended by the next start", async () => {
  const dataDir = join(await scratchDirectory(), "data");
  const nats = () =>
    startNats({ dataDir, password: "secret", path: process.env["PATH"] ?? "", log: quiet });
  const abandoned = await nats();
  const { pid } = abandoned;
  const next = await nats();
  expect(processInfo(pid)).toBeUndefined();
  await using bus = openNatsBus({ url: next.url, name: "test", log: quiet });
  await bus.connected();
  // The abandoned handle supervises on, as no killed platform could: end it first.
  await abandoned.stop();
  await next.stop();
});

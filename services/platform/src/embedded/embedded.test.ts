import { join } from "node:path";
import { migrate } from "@fastgpu/postgres/migrate";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement } from "@fastgpu/postgres/pool";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
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

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { processInfo } from "@fastgpu/lifecycle/child";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import { startNatsServer } from "../src/server.ts";

const start = (dataDir: string) =>
  startNatsServer({ dataDir, password: "secret", path: process.env["PATH"] ?? "", log: quiet });

const leaveRunning = `
  import { startNatsServer } from ${JSON.stringify(fileURLToPath(new URL("../src/server.ts", import.meta.url)))};
  import { createLogger } from "@fastgpu/telemetry/log";
  const log = createLogger({ service: "test", level: "silent" });
  const server = await startNatsServer({ dataDir: process.argv[2], password: "secret", path: process.env.PATH, log });
  console.log(String(server.pid)); // a number would come in colours where they are forced
  setInterval(() => {}, 1000);
`;

test("a server that a killed platform left is ended by the next start", async () => {
  const dataDir = join(await scratchDirectory(), "nats");
  // Beside this file, so that packages are found as from here.
  const script = fileURLToPath(new URL(`./leave-running-${process.pid}.ts`, import.meta.url));
  await writeFile(script, leaveRunning);
  const child = spawn(process.execPath, [script, dataDir], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  await rm(script);
  const abandoned = Number(chunk.toString("utf8"));
  child.kill("SIGKILL");
  await once(child, "exit");
  const log = await readFile(join(dataDir, "nats.log"), "utf8");
  expect(processInfo(abandoned)?.program, `${String(chunk)}${log}`).toBe("nats-server");
  await using server = await start(dataDir);
  expect(processInfo(abandoned)).toBeUndefined();
  expect(processInfo(server.pid)?.program).toBe("nats-server");
});

test("strangers are not let in, and JetStream keeps its store in the data directory", async () => {
  const dataDir = join(await scratchDirectory(), "nats");
  await using server = await start(dataDir);
  const { host } = new URL(server.url);
  await expect(connect({ servers: host })).rejects.toThrow(/authorization/i);
  await expect(connect({ servers: host, user: "fastgpu", pass: "guess" })).rejects.toThrow(
    /authorization/i,
  );
  const connection = await connect({ servers: host, user: "fastgpu", pass: "secret" });
  await (await jetstreamManager(connection)).streams.add({ name: "s", subjects: ["s.*"] });
  await connection.close();
  expect((await readdir(join(dataDir, "jetstream"), { recursive: true })).join(" ")).toContain(
    "streams/s",
  );
});

test("a store that the server cannot read is emptied: it is disposable", async () => {
  const dataDir = join(await scratchDirectory(), "nats");
  await (await start(dataDir)).stop();
  await rm(join(dataDir, "jetstream"), { recursive: true });
  await writeFile(join(dataDir, "jetstream"), "not a directory");
  await using server = await start(dataDir);
  expect(processInfo(server.pid)?.program).toBe("nats-server");
});

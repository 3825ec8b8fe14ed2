import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { runCli } from "../../test/run-cli.ts";
import { withoutSecrets } from "./service-config.ts";

const folder = mkdtempSync(join(tmpdir(), "cli-services-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("secrets do not leave: by name, at any depth, and in URLs", () => {
  expect(
    withoutSecrets({
      port: 7600,
      joinToken: "t",
      database: { core: "postgres://auth_core:p4ss@h:1/fastgpu", password: "p" },
      natsUrl: "nats://h:4222",
      privateKeyPem: "-----BEGIN",
      masterKeyFile: "/keys/master.key",
      list: [{ secret: "s" }],
    }),
  ).toEqual({
    port: 7600,
    joinToken: "…",
    database: { core: "postgres://auth_core:…@h:1/fastgpu", password: "…" },
    natsUrl: "nats://h:4222",
    privateKeyPem: "…",
    masterKeyFile: "/keys/master.key",
    list: [{ secret: "…" }],
  });
});

test("the effective settings are the file's, the defaults and the environment's, checked", async () => {
  const file = join(folder, "fastgpu.yaml");
  writeFileSync(
    file,
    "worker: {directory: /w, scheduler: 'h:7601', auth: 'h:1', storage: 'h:2', joinToken: hush}\n",
  );
  const print = (env: Record<string, string>) =>
    runCli(["config", "print", "--services", file, "-o", "json"], { env });
  const { code, stdout, stderr } = await print({ FASTGPU_WORKER__NAME: "rack-7" });
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    worker: {
      directory: "/w",
      scheduler: "h:7601",
      name: "rack-7",
      joinToken: "…",
      stopTasks: false,
    },
  });

  writeFileSync(file, "wroker: {directory: /w}\n");
  const wrong = await print({});
  expect(wrong.code).toBe(65);
  expect(wrong.stderr).toContain("worker");
});

import { randomInt } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { type CliResult, runCli } from "./run-cli.ts";

const scratch = mkdtempSync(join(tmpdir(), "cli-start-"));
const data = join(scratch, "data");
const config = join(scratch, "config.yaml");
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The first of three free ports in a row, below those that outgoing connections get. */
async function freePorts(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const all = [listen(port), listen(port + 1), listen(port + 2)];
    if ((await Promise.all(all).catch(() => undefined)) !== undefined) return port;
  }
}

function listen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const bound = (server.address() as AddressInfo).port;
      server.close(() => resolve(bound));
    });
  });
}

/** What a run of `start --once` said, by the words that begin its lines. */
function told(result: CliResult): Map<string, string> {
  const lines = result.stdout.matchAll(/^ {2}(\w+) {2,}(.+)$/gm);
  return new Map([...lines].map(([, name = "", text = ""]) => [name, text]));
}

describe("start --once, on real parts", () => {
  const once = async (): Promise<CliResult> =>
    await runCli(["start", "--once", "--data", data, "--port", String(await freePorts())], {
      env: { FASTGPU_CONFIG: config },
    });

  test("runs the first task to its bill, gives the key once, and again with the same data", async () => {
    const first = await once();
    expect(first.code, first.stderr).toBe(0);
    const facts = told(first);
    expect(facts.get("ended")).toMatch(/^SUCCEEDED/);
    expect(
      Number(/metrics\.json.*test accuracy ([\d.]+) %/.exec(first.stdout)?.[1]),
    ).toBeGreaterThanOrEqual(95);
    expect(facts.get("bill")).toMatch(/^0\.\d+ USD$/);
    expect(first.stdout).toContain("GPU: simulated");
    expect(first.stdout).toContain("(simulated GPU)");
    const key = facts.get("key") ?? "";
    expect(key).toMatch(/^fgpu_/);
    expect(statSync(config).mode & 0o777).toBe(0o600);
    const { contexts } = parse(readFileSync(config, "utf8")) as {
      contexts: Record<string, { key: string; data: string }>;
    };
    expect(contexts["local"]).toMatchObject({ key, data });

    const second = await once();
    expect(second.code, second.stderr).toBe(0);
    expect(second.stdout).not.toContain(key);
    expect(told(second).get("key")).toContain('that of context "local"');
    expect(told(second).get("ended")).toMatch(/^SUCCEEDED/);

    const reset = await runCli(["reset", "--data", data], { env: { FASTGPU_CONFIG: config } });
    expect(reset.code).toBe(0);
    expect(readdirSync(data)).toEqual([]);
    expect(parse(readFileSync(config, "utf8"))).toEqual({ contexts: {} });
  }, 240_000);

  test("a taken port is refused with its holder and the flag, before anything starts", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const result = await runCli([
      "start",
      "--data",
      join(scratch, "other"),
      "--port",
      String(port),
    ]);
    await new Promise((resolve) => server.close(resolve));
    expect(result.code).toBe(69);
    expect(result.stderr).toContain(`error: port ${port} is taken`);
    expect(result.stderr).toContain(`(pid ${process.pid})`);
    expect(result.stderr).toContain("--port N");
    expect(readdirSync(scratch)).not.toContain("other");
  });

  test("a folder that is none of FastGPU's is not emptied", async () => {
    const result = await runCli(["reset", "--data", scratch]);
    expect(result.code).toBe(65);
    expect(result.stderr).toContain("is not a data directory of FastGPU");
  });
});

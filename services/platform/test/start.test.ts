import { spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "@fastgpu/lifecycle/child";
import { afterAll, describe, expect, test } from "vitest";

const program = fileURLToPath(new URL("../../../clients/cli/bin/fastgpu.mjs", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "fastgpu-start-"));
chmodSync(scratch, 0o755);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const isRoot = process.getuid?.() === 0;
const nobody = { uid: 65534, gid: 65534 };

interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a person types, as that person, and what they see. */
function run(
  command: string,
  args: readonly string[],
  of: { home: string; user?: { uid: number; gid: number } | undefined },
): Promise<Said> {
  const child = spawn(command, [...args], {
    cwd: of.home,
    env: { PATH: process.env["PATH"] ?? "", HOME: of.home, TMPDIR: tmpdir() },
    stdio: ["ignore", "pipe", "pipe"],
    ...of.user,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

async function startOnce(of: Parameters<typeof run>[2] & { data: string }): Promise<Said> {
  const port = String(await freePort(3));
  return run(process.execPath, [program, "start", "--once", "--data", of.data, "--port", port], of);
}

/** Progress while it runs, then accuracy and cost of a task that succeeded. */
function checkFirstTask(said: Said): void {
  expect(said.code, said.stderr).toBe(0);
  expect(said.stdout).toMatch(/^epoch +20\/20 /m);
  expect(said.stdout).toMatch(/^ {2}ended +SUCCEEDED/m);
  const accuracy = /test accuracy ([\d.]+) %/.exec(said.stdout.slice(said.stdout.indexOf("ended")));
  expect(Number(accuracy?.[1])).toBeGreaterThanOrEqual(95);
  expect(said.stdout).toMatch(/^ {2}bill +0\.\d+ USD$/m);
  expect(said.stdout).toContain("simulated");
}

describe("fastgpu start --once", () => {
  test.skipIf(!isRoot)(
    "as root below a folder that nobody else may enter: the database is kept where its user can go",
    async () => {
      const closed = join(scratch, "closed");
      mkdirSync(closed, { mode: 0o700 });
      const data = join(closed, "data");
      checkFirstTask(await startOnce({ home: closed, data }));
      // The second run finds that cluster again: the key of the first still opens it.
      const second = await startOnce({ home: closed, data });
      checkFirstTask(second);
      expect(second.stdout).toMatch(/^ {2}key +that of context "local"/m);
      expect(statSync(closed).mode & 0o777).toBe(0o700);
      const reset = await run(process.execPath, [program, "reset", "--data", data], {
        home: closed,
      });
      expect(reset.code, reset.stderr).toBe(0);
    },
    240_000,
  );

  test("where nothing may be written it says so, and what to do", async () => {
    const home = join(scratch, "sealed");
    mkdirSync(home);
    writeFileSync(join(home, "file"), "");
    const said = await startOnce({ home, data: join(home, "file", "data") });
    expect(said.code).not.toBe(0);
    expect(said.stderr).toContain(`cannot make ${join(home, "file", "data")}`);
    expect(said.stderr).toContain("--data");
  });

  test("as an ordinary user, twice on the same data", async (context) => {
    const home = join(scratch, "home");
    mkdirSync(home, { mode: 0o700 });
    if (isRoot) chownSync(home, nobody.uid, nobody.gid);
    const user = isRoot ? nobody : undefined;
    const of = { home, user, data: join(home, "data") };
    const readable = await run(process.execPath, [program, "--version"], of).catch(
      (error: unknown) => ({ code: 1, stdout: "", stderr: String(error) }),
    );
    if (readable.code !== 0) {
      console.log(`skipped: an ordinary user cannot read the checkout: ${readable.stderr}`);
      return context.skip();
    }
    checkFirstTask(await startOnce(of));
    const second = await startOnce(of);
    checkFirstTask(second);
    expect(second.stdout).toMatch(/^ {2}key +that of context "local"/m);
    expect(statSync(of.data).uid).toBe(user?.uid ?? process.getuid?.());
  }, 240_000);
});

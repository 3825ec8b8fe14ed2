import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { createLogger } from "./log.ts";
import type { LoggerOptions } from "./log.ts";

/** A logger and the lines it has written. */
function collecting(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ service: "scheduler", level: "info", destination, ...options });
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? "{}") as Record<string, unknown> };
}

describe("a line", () => {
  test("says when, how bad, who and what", () => {
    const { log, last } = collecting();
    log.info({ task: "task-1" }, "leased");
    expect(last()).toMatchObject({
      level: "info",
      service: "scheduler",
      task: "task-1",
      msg: "leased",
    });
    expect(last()["time"]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test("keeps an error's cause", () => {
    const { log, lines } = collecting();
    log.error({ err: new Error("outer", { cause: new Error("inner") }) }, "failed");
    expect(lines[0]).toContain("inner");
  });

  test.each([
    [{ token: "abc" }],
    [{ spec: { env: { PASSWORD: "abc" } } }],
    [{ task: { spec: { env: { PASSWORD: "abc" } } } }],
    [{ headers: { authorization: "abc" } }],
    [{ apiKey: "abc" }],
  ])("never tells a secret: %j", (fields) => {
    const { log, lines } = collecting();
    log.info(fields, "leased");
    expect(lines[0]).not.toContain("abc");
    expect(lines[0]).toContain("[redacted]");
  });

  test("never tells a key or a token, wherever it stands", () => {
    const { log, lines } = collecting();
    const jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJrZXktMSJ9.c2lnbmF0dXJl";
    log.info({ url: `http://x/?key=fgpu_local_01abc_verysecret_crc` }, `bearer ${jwt} refused`);
    expect(lines[0]).not.toMatch(/verysecret|c2lnbmF0dXJl/);
    expect(lines[0]).toContain("fgpu_local…");
  });

  test("for people is one too", async () => {
    const written: string[] = [];
    const destination = new Writable({
      write(chunk: Buffer, _, done) {
        written.push(chunk.toString());
        done();
      },
    });
    const { log } = collecting({ destination, pretty: true });
    log.warn({ token: "abc" }, "slow");
    await new Promise((resolve) => setImmediate(resolve));
    const text = written.join("");
    expect(text).toContain("scheduler slow");
    expect(text).not.toContain("abc");
  });
});

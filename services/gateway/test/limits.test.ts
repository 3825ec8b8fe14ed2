import { readFileSync } from "node:fs";
import { limits } from "@fastgpu/rpc/limits";
import { expect, test } from "vitest";
import { gatewayConfig } from "../src/config.ts";

const page = readFileSync(new URL("../../../docs/limits.md", import.meta.url), "utf8");

/** The stated limit of a row of docs/limits.md. */
function stated(what: string): string | undefined {
  return page
    .split("\n")
    .find((line) => line.startsWith(`| ${what} |`))
    ?.split("|")[2]
    ?.trim();
}

const count = (value: number): string => value.toLocaleString("en-US");

test("docs/limits.md states what the servers and the gateway do", () => {
  const nowhere = "127.0.0.1:1";
  const { rateLimit } = gatewayConfig.parse({
    upstreams: {
      auth: nowhere,
      scheduler: nowhere,
      billing: nowhere,
      monitor: nowhere,
      storage: nowhere,
    },
  });
  expect(stated("gRPC message")).toBe(`${limits.messageBytes / 2 ** 20} MiB`);
  expect(stated("headers of a call")).toBe(`${limits.headerBytes / 2 ** 10} KiB`);
  expect(stated("calls of one tenant")).toBe(
    `${count(rateLimit.callsPerSecond)} a second, bursts of ${count(rateLimit.burst)}`,
  );
  expect(stated("calls open at once")).toBe(
    `${count(limits.concurrentStreams)} a connection to the gateway; ${count(limits.openCalls)} a service`,
  );
  expect(stated("deadline of a unary call")).toContain(`${limits.unaryDeadlineMs / 1000} s`);
});

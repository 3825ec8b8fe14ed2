import { expect, test } from "vitest";
import { blamesCommand, isLocalName, readPull } from "./failures.ts";

const line = (of: object): string => `${JSON.stringify(of)}\n`;

test.each([
  [200, line({ stream: "Trying to pull" }) + line({ images: ["a"], id: "a" }), "done"],
  [200, { status: "Downloaded newer image", error: "" }, "done"],
  [
    200,
    line({ stream: "Trying" }) + line({ error: "reading manifest 9 in x/y: manifest unknown" }),
    "unknown",
  ],
  [404, { message: "pull access denied for x, repository does not exist" }, "unknown"],
  [500, { message: 'short-name "x" did not resolve to an alias', cause: "x" }, "unknown"],
  [
    200,
    { error: "pinging container registry h: dial tcp 10.0.0.1:443: connect: connection refused" },
    "unreachable",
  ],
  [200, { error: "dial tcp: lookup registry.example: no such host" }, "unreachable"],
  [500, "net/http: TLS handshake timeout", "unreachable"],
  [503, "", "unreachable"],
] as const)("an engine's answer %s %j to a pull means %s", (status, body, kind) => {
  expect(readPull({ status, body }).kind).toBe(kind);
});

test.each([
  [
    'runc create failed: unable to start container process: exec: "/no/such": stat /no/such: no such file or directory',
    true,
  ],
  ["crun: executable file `x` not found in $PATH: No such file or directory", true],
  ['OCI runtime create failed: exec: "/etc/passwd": permission denied: unknown', true],
  ["exec /x: exec format error", true],
  ["error mounting /dev/x: no such file or directory", false],
  ["cgroup: permission denied", false],
  ["no space left on device", false],
])("%s blames the command: %s", (message, blamed) => {
  expect(blamesCommand(message)).toBe(blamed);
});

test("only names of no registry are not asked for", () => {
  expect(isLocalName("localhost/x:1")).toBe(true);
  expect(isLocalName(`sha256:${"a".repeat(64)}`)).toBe(true);
  for (const name of ["busybox", "localhost:5000/x", "registry.example/x@sha256:00"]) {
    expect(isLocalName(name)).toBe(false);
  }
});

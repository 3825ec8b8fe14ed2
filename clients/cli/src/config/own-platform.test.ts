import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readConfig, saveContext } from "./file.ts";
import { keepOwnContext, ownContext } from "./own-platform.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cli-own-"));
  path = join(folder, "config.yaml");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("the first platform is called local, and a restart at another port keeps its key", () => {
  expect(keepOwnContext(path, "/data/a", { address: "127.0.0.1:7600", key: "k" })).toBe("local");
  expect(keepOwnContext(path, "/data/a", { address: "127.0.0.1:7700" })).toBe("local");
  expect(ownContext(path, "/data/a")).toEqual({
    name: "local",
    context: { address: "127.0.0.1:7700", key: "k", data: "/data/a" },
  });
});

test("another data directory never takes the context of the first", () => {
  keepOwnContext(path, "/data/a", { address: "x:1", key: "a" });
  expect(keepOwnContext(path, "/data/b", { address: "x:2", key: "b" })).toBe("local-2");
  expect(keepOwnContext(path, "/data/c", { address: "x:3", key: "c" })).toBe("local-3");
  expect(ownContext(path, "/data/a")?.context.key).toBe("a");
  expect(readConfig(path).current).toBe("local-3");
});

test("a context that people called local is left alone", () => {
  saveContext(path, "local", { address: "elsewhere:1", key: "theirs" });
  expect(keepOwnContext(path, "/data/a", { address: "x:1", key: "a" })).toBe("local-2");
  expect(readConfig(path).contexts["local"]).toEqual({ address: "elsewhere:1", key: "theirs" });
});

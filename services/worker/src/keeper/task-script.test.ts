import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type TaskScript, writeTaskScript } from "./task-script.ts";

test("a shell that has opened a script reads it whole, whatever is written for the next lane meanwhile", () => {
  const dir = mkdtempSync(join(tmpdir(), "script-"));
  const path = join(dir, "script");
  const script: TaskScript = {
    workdir: "/",
    env: {},
    command: ["true"],
    how: "lane",
    checkpoints: undefined,
  };
  writeTaskScript(path, script);
  const text = readFileSync(path, "utf8");
  const opened = openSync(path, "r");
  writeTaskScript(path, { ...script, command: ["false"] });
  expect(readFileSync(opened, "utf8")).toBe(text);
  expect(readFileSync(path, "utf8")).toContain("'false'");
  closeSync(opened);
  rmSync(dir, { recursive: true });
});

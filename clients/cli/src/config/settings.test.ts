import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { configPath, readConfig, saveContext } from "./file.ts";
import { resolveSettings } from "./settings.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cli-config-"));
  path = join(folder, "deep", "config.yaml");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the configuration file", () => {
  test("is where the environment says, by the XDG rules", () => {
    expect(configPath({ FASTGPU_CONFIG: "/x.yaml", XDG_CONFIG_HOME: "/xdg" })).toBe("/x.yaml");
    expect(configPath({ XDG_CONFIG_HOME: "/xdg", HOME: "/h" })).toBe("/xdg/fastgpu/config.yaml");
    expect(configPath({ HOME: "/h" })).toBe("/h/.config/fastgpu/config.yaml");
  });

  test("is readable by its owner alone, also when it replaces one that was not", () => {
    saveContext(path, "a", { address: "h:1", key: "k" });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    writeFileSync(path, readFileSync(path, "utf8"), { mode: 0o644 });
    saveContext(path, "b", { address: "h:2" });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("keeps the other contexts and the other fields of the one that changes", () => {
    saveContext(path, "a", { address: "h:1", key: "k" });
    saveContext(path, "b", { address: "h:2" });
    saveContext(path, "a", { address: "h:3" });
    expect(readConfig(path)).toEqual({
      current: "a",
      contexts: { a: { address: "h:3", key: "k" }, b: { address: "h:2" } },
    });
  });

  test("is empty where there is none", () => {
    expect(readConfig(path)).toEqual({ contexts: {} });
  });

  test.each([
    ["{", "cannot be read"],
    ["contexts: {a: {addres: x}}", "contexts.a"],
    ["colour: red", "colour"],
    ["contexts: 5", "contexts"],
  ])("%j is refused, with the file and the place", (text, place) => {
    path = join(folder, "broken.yaml");
    writeFileSync(path, text);
    expect(() => readConfig(path)).toThrow(expect.objectContaining({ exitCode: 78 }));
    try {
      readConfig(path);
    } catch (error) {
      const { message, why } = error as { message: string; why: string };
      expect(`${message} ${why}`).toContain(place);
      expect(message).toContain(path);
    }
  });
});

describe("settings", () => {
  const env = (more: Record<string, string> = {}) => ({ FASTGPU_CONFIG: path, ...more });
  beforeEach(() => {
    saveContext(path, "lab", {
      address: "lab:7600",
      key: "lab-key",
      project: "projects/lab",
      organization: "organizations/l",
    });
    saveContext(path, "here", {
      address: "127.0.0.1:7600",
      key: "here-key",
      project: "projects/here",
    });
  });

  test("come from the current context, each with its source", () => {
    const settings = resolveSettings({}, env());
    expect(settings).toMatchObject({
      context: "here",
      address: "127.0.0.1:7600",
      key: "here-key",
      project: "projects/here",
    });
    expect(settings.sources).toMatchObject({
      context: path,
      key: "context here",
      organization: "not set",
    });
  });

  test("a flag wins over the environment, which wins over the context", () => {
    const variables = env({
      FASTGPU_ADDRESS: "env:1",
      FASTGPU_PROJECT: "env",
      FASTGPU_CONTEXT: "lab",
    });
    expect(resolveSettings({}, variables)).toMatchObject({
      context: "lab",
      address: "env:1",
      project: "projects/env",
    });
    expect(
      resolveSettings({ address: "flag:1", project: "flag", context: "here" }, variables),
    ).toMatchObject({
      context: "here",
      address: "flag:1",
      project: "projects/flag",
    });
  });

  test("another key does not act in the context's project, which may not be its own", () => {
    const settings = resolveSettings({}, env({ FASTGPU_API_KEY: "other" }));
    expect(settings).toMatchObject({ key: "other", project: undefined });
    expect(settings.address).toBe("127.0.0.1:7600");
  });

  test("without a file the default address is used and there is no key", () => {
    expect(resolveSettings({}, { FASTGPU_CONFIG: join(folder, "none.yaml") })).toMatchObject({
      context: undefined,
      address: "127.0.0.1:7600",
      key: undefined,
    });
  });

  test("an unknown context is refused with the nearest one", () => {
    expect(() => resolveSettings({ context: "hree" }, env())).toThrow(
      expect.objectContaining({ hint: "--context here", exitCode: 78 }),
    );
  });
});

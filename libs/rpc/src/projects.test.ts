import { expect, test } from "vitest";
import { cachedProjects } from "./projects.ts";

test("a project is asked for once, an absence again after a while, and loads are shared", async () => {
  let time = 0;
  const asked: string[] = [];
  const orgs = new Map([["proj-1", "org-1"]]);
  const resolve = cachedProjects({
    clock: { nowMs: () => time },
    load: async (id) => {
      asked.push(id);
      return orgs.get(id);
    },
  });
  expect(await Promise.all([resolve("proj-1"), resolve("proj-1")])).toEqual(["org-1", "org-1"]);
  expect(resolve("proj-1")).toBe("org-1");
  expect(await resolve("proj-2")).toBeUndefined();
  expect(resolve("proj-2")).toBeUndefined();
  expect(asked).toEqual(["proj-1", "proj-2"]);
  orgs.set("proj-2", "org-2");
  time += 5_000;
  expect(await resolve("proj-2")).toBe("org-2");
});

test("a failed load is not remembered", async () => {
  let fail = true;
  const resolve = cachedProjects({
    clock: { nowMs: () => 0 },
    load: async () => {
      if (fail) throw new Error("away");
      return "org-1";
    },
  });
  await expect(resolve("proj-1")).rejects.toThrow("away");
  fail = false;
  expect(await resolve("proj-1")).toBe("org-1");
});

import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { createPageTokens, cutPage } from "./page-token.ts";

const tokens = createPageTokens(randomBytes(32));
const query = ["ListThings", "projects/a", "state=x"];

test("a token gives back its cursor for its own query", () => {
  expect(tokens.read(query, "")).toBeUndefined();
  expect(tokens.read(query, tokens.make(query, "thing-7"))).toBe("thing-7");
});

test("a token of another query, another service, or changed in any character is refused", () => {
  const token = tokens.make(query, "thing-7");
  expect(() => tokens.read(["ListThings", "projects/b", "state=x"], token)).toThrow(/page_token/);
  expect(() => tokens.read(["ListThings", "projects/a state=x"], token)).toThrow(/page_token/);
  expect(() => createPageTokens(randomBytes(32)).read(query, token)).toThrow(/page_token/);
  for (let i = 0; i < token.length; i += 1) {
    const other = token[i] === "A" ? "B" : "A";
    expect(() => tokens.read(query, token.slice(0, i) + other + token.slice(i + 1))).toThrow();
  }
  for (const bad of ["A", "%%%", token.slice(0, 10), `${token}A`]) {
    expect(() => tokens.read(query, bad)).toThrow(/page_token/);
  }
});

test("pages joined are the list, each element once", () => {
  const all = Array.from({ length: 23 }, (_, i) => i);
  const seen: number[] = [];
  let token = "";
  do {
    const after = Number(tokens.read(query, token) ?? -1);
    const rows = all.filter((n) => n > after).slice(0, 5 + 1);
    const page = cutPage(rows, { size: 5, tokens, query, cursorOf: String });
    seen.push(...page.rows);
    token = page.nextPageToken;
  } while (token !== "");
  expect(seen).toEqual(all);
});

import { expect, test } from "vitest";
import { matches } from "./glob.ts";

test.each([
  ["*.txt", "a.txt", true],
  ["*.txt", "dir/a.txt", false],
  ["**/*.txt", "a.txt", true],
  ["**/*.txt", "x/y/a.txt", true],
  ["models/**", "models/a/b.bin", true],
  ["models/**", "other/a", false],
  ["a+b(c).bin", "a+b(c).bin", true],
  ["a.bin", "aXbin", false],
])("%s on %s: %s", (pattern, path, expected) => {
  expect(matches(pattern, path)).toBe(expected);
});

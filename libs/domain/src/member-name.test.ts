import { expect, test } from "vitest";
import { newId } from "./ids.ts";
import { memberName, parseMemberName } from "./member-name.ts";

const attempt = newId("att", 1_700_000_000_000, new Uint8Array(10));

test("the name of each member is read back, and rank 0 is called as its attempt", () => {
  expect(memberName({ attempt, member: 0 })).toBe(attempt);
  for (const member of [0, 1, 9, 10, 1_023]) {
    expect(parseMemberName(memberName({ attempt, member }))).toEqual({ attempt, member });
  }
});

test.each([
  "",
  "att-",
  "task-01j",
  `${attempt}-0`,
  `${attempt}-01`,
  `${attempt}-1024`,
  `${attempt}-1-1`,
  `${attempt}-x`,
  `${attempt}-`,
])("%j names no member", (name) => {
  expect(parseMemberName(name)).toBeUndefined();
});

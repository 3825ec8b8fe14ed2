import { describe, expect, test } from "vitest";
import { checkEffects } from "./effects.ts";

/** Tests of the check itself: one that cannot fail would prove nothing. */
describe("effects of runs", () => {
  test("are right where every task's last run came to its end, and no two runs overlap", () => {
    checkEffects(
      ["begin 1 att-a 1.0", "begin 2 att-b 1.1", "end 1 att-a 1.2", "end 2 att-b 1.3"],
      2,
    );
    // Killed in the first run, done in the second.
    checkEffects(["begin 1 att-a 1.0", "begin 1 att-b 4.0", "end 1 att-b 4.1"], 1);
  });

  test.each<[string, string[], RegExp]>([
    ["a task that never ran", ["begin 1 att-a 1.0", "end 1 att-a 1.1"], /1 to be 2/],
    [
      "a task that never came to its end",
      ["begin 1 att-a 1.0", "end 1 att-a 1.1", "begin 2 att-b 1.0"],
      /task 2 never ran to its end/,
    ],
    [
      "two runs of a task at once",
      [
        ...["begin 1 att-a 1.0", "begin 1 att-b 1.1", "end 1 att-a 1.2", "end 1 att-b 1.3"],
        ...["begin 2 att-c 1.0", "end 2 att-c 1.1"],
      ],
      /two runs of task 1 overlap/,
    ],
    [
      "a gang whose members ended in different attempts",
      [
        ...["begin 1.0 att-a 1.0", "begin 1.1 att-a 1.0", "end 1.0 att-a 1.2"],
        ...["begin 1.1 att-b 2.0", "end 1.1 att-b 2.2"],
      ],
      /gang 1.1 ended in pieces/,
    ],
    ["an end out of nowhere", ["end 1 att-a 1.0"], /an end without its begin/],
  ])("%s is found", (_what, lines, message) => {
    expect(() => checkEffects(lines, 2)).toThrow(message);
  });
});

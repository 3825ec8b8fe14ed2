import { describe, expect, test } from "vitest";
import { renderFacts, renderTable } from "./table.ts";
import { displayWidth, stripControls } from "./text.ts";

interface Row {
  name: string;
  size: number;
}
const columns = [
  { header: "name", value: (row: Row) => row.name },
  { header: "size", value: (row: Row) => String(row.size), align: "right" as const },
];

describe("a table", () => {
  test("aligns text left and numbers right, with headers in capitals and no trailing spaces", () => {
    const rows = [
      { name: "a", size: 1000 },
      { name: "longer", size: 7 },
    ];
    expect(renderTable(columns, rows)).toBe("NAME    SIZE\na       1000\nlonger     7\n");
  });

  test("shows that there is nothing as a dash", () => {
    expect(renderTable(columns, [{ name: "", size: 0 }])).toBe("NAME  SIZE\n-        0\n");
  });

  test("stays aligned with wide characters and combining marks", () => {
    const table = renderTable(columns, [
      { name: "訓練", size: 1 },
      { name: "e\u0301te\u0301", size: 2 },
    ]);
    expect(table).toBe("NAME  SIZE\n訓練     1\ne\u0301te\u0301      2\n");
  });

  test("keeps terminal escapes and line ends of other people's names out", () => {
    const table = renderTable(columns, [{ name: "x\u001b[2J\r\ny\u009b31m", size: 1 }]);
    // oxlint-disable-next-line no-control-regex -- none but the line end may be left
    expect(table).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect(table.split("\n")).toHaveLength(3);
  });

  test("paints the padded cell, so that colours do not move columns", () => {
    const painted = [{ ...columns[0]!, paint: (cell: string) => `<${cell}>` }, columns[1]!];
    const table = renderTable(painted, [
      { name: "a", size: 1 },
      { name: "bcd", size: 2 },
    ]);
    expect(table).toContain("<a   >");
  });
});

test("facts stand below each other and empty ones are left out", () => {
  expect(
    renderFacts([
      ["task", "t"],
      ["status", ""],
      ["ran", "3s"],
    ]),
  ).toBe("task: t\nran:  3s\n");
});

test("on a terminal long facts are broken between words, below where they begin", () => {
  const facts = [
    ["in short", "No node has room for it now: 1 of 1 nodes have 한글 GPUs busy."],
    ["id", "task-01m81fe6v0eatrvgya263s0k62-longer-than-the-line"],
  ] as const;
  expect(renderFacts(facts, 40)).toBe(
    [
      "in short: No node has room for it now: 1",
      "          of 1 nodes have 한글 GPUs",
      "          busy.",
      "id:       task-01m81fe6v0eatrvgya263s0k62-longer-than-the-line\n",
    ].join("\n"),
  );
  // Nobody looks, or nothing would fit beside the names.
  for (const columns of [undefined, 20])
    expect(renderFacts(facts, columns)).toContain("GPUs busy.");
});

test("widths: ASCII one, East Asian two, marks none", () => {
  expect([
    displayWidth("abc"),
    displayWidth("한글"),
    displayWidth("e\u0301"),
    displayWidth("👩"),
  ]).toEqual([3, 4, 1, 2]);
});

test("a text without control characters is left as it is", () => {
  expect(stripControls("größe 5 – ok")).toBe("größe 5 – ok");
});

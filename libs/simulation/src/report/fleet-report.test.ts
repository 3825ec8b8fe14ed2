import { describe, expect, test } from "vitest";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { compareRuns } from "../fleet/compare.ts";
import { parseInventory } from "../fleet/inventory.ts";
import { drawLoad, usualLoad } from "../fleet/load.ts";
import { simulate } from "../fleet/simulate.ts";
import { renderComparisonPage, renderFleetPage } from "./fleet-page.ts";
import { comparisonTables, fleetTables, renderTables } from "./fleet-tables.ts";
import { linePlot } from "./line-plot.ts";
import { changeInWords, dollars, duration } from "./words.ts";

const inventory = parseInventory("4x H100 x 3 nodes");
const nodes = inventory.kind === "ok" ? inventory.nodes : [];
const load = { ...usualLoad, tasks: 120, gangMilli: 0, fleetGpus: 12, gpusPerNode: 4, seed: 2 };
const workload = { ...drawLoad(load), name: "<b>load</b>", notes: ["a & b"] };
const play = (placement: "default" | "spreading", seed = 1) =>
  simulate(
    { nodes, workload, seed },
    { name: `<i>${placement}</i>`, policy: { ...defaultSchedulingPolicy, placement } },
  );
const before = play("default");
const after = play("spreading");

describe("a comparison", () => {
  test("has every figure of both runs, and says which is better", () => {
    const { changes, tenants, widths } = compareRuns(before, after);
    const wait = changes.find(({ figure }) => figure === "waiting, mean")!;
    expect(wait).toMatchObject({ before: before.waiting.meanMs, after: after.waiting.meanMs });
    expect(wait.better).toBe(wait.after < wait.before ? "after" : "before");
    expect(wait.after).not.toBe(wait.before);
    expect(tenants.map(({ of }) => of)).toEqual(before.tenants.map(({ tenant }) => tenant));
    expect(widths.length).toBeGreaterThan(2);
    for (const { better } of compareRuns(before, before).changes) expect(better).toBeUndefined();
  });

  test("is only of runs of the same workload, fleet and seed", () => {
    expect(() => compareRuns(before, play("default", 2))).toThrow(RangeError);
  });
});

describe("a page", () => {
  test.each([
    ["of a run", renderFleetPage(before), 6],
    ["of two runs", renderComparisonPage(compareRuns(before, after)), 7],
  ])(
    "%s needs nothing else, says that it is simulated, and shows names as text",
    (_, page, plots) => {
      expect(page).not.toMatch(/<script|https?:\/\/|@import|url\(/);
      expect(page).not.toMatch(/<b>load|<i>default/);
      expect(page).toContain("&lt;b&gt;load");
      expect(page).toContain("a &amp; b");
      expect(page).toContain("Simulated:");
      expect(page).toContain("prefers-color-scheme:dark");
      expect(page.match(/<svg[^>]*role="img" aria-label="[^"]+"/g)).toHaveLength(plots);
      expect(page.match(/<desc>[^<]+<\/desc>/g)).toHaveLength(plots);
      expect(page.match(/<summary>the same in numbers/g)).toHaveLength(plots);
      expect(page).not.toContain("NaN");
    },
  );

  test("a plot tells its lines' ranges in words", () => {
    const points = [2, 4, 9].map((y, at) => ({ x: at * 3_600_000, y }));
    const plot = linePlot({ title: "Load", series: [{ name: "a", points }], times: "elapsed" });
    expect(plot).toContain("<desc>a: from 2 to 9, 5 in the mean</desc>");
    expect(plot).toContain(">2 h</text>");
  });
});

test("tables have a line for every tenant and width, and are labelled", () => {
  const text = renderTables(before.title, fleetTables(before), workload.notes);
  expect(text).toContain("(simulated)");
  expect(text).toContain("note: a & b");
  for (const { tenant } of before.tenants) expect(text).toContain(`  ${tenant} `);
  for (const { width } of before.byWidth) expect(text).toContain(`  ${width} `);
  const comparison = compareRuns(before, after);
  const changes = renderTables(comparison.title, comparisonTables(comparison), []);
  expect(changes).toContain("GPUs at useful work");
});

test("figures are worded with their units", () => {
  expect([0, 1_500, 150_000, 9e6, 400e6].map(duration)).toEqual([
    "0 s",
    "1.5 s",
    "2.5 min",
    "2.5 h",
    "4.6 d",
  ]);
  expect(["0", "12345678901", "-5000000000"].map(dollars)).toEqual(["$0.00", "$12.34", "-$5.00"]);
  expect(changeInWords(100, 150, "ms")).toBe("+50.0 %");
  expect(changeInWords(0.5, 0.45, "part")).toBe("−5.0 points");
  expect(changeInWords(0, 0, "count")).toBe("±0 %");
  expect(changeInWords(0, 3, "count")).toBe("+3");
});

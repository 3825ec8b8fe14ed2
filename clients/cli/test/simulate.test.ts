import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Comparison } from "@fastgpu/simulation/fleet/compare";
import type { FleetReport } from "@fastgpu/simulation/fleet/report";
import { runCli } from "./run-cli.ts";

const folder = mkdtempSync(join(tmpdir(), "simulate-"));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const simulate = (...args: string[]) => runCli(["scheduler", "simulate", ...args]);
const fleet = ["--nodes", "4x H100 x 4 nodes, racks of 2"];
const load = ["--workload", "synthetic:tasks=150,weights=1:3,gangs=0"];

const nodes = file(
  "nodes.csv",
  "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,T4\nb,64000,262144,2,A10\n",
);
const pods = file(
  "openb_pod_list_mine.csv",
  "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n" +
    "p,4000,1024,1,460,T4,LS,100,4100,110\nq,4000,1024,2,1000,,BE,150,7350,150\nr,500,1024,0,0,,LS,160,200,160\n",
);
const jobs = file(
  "philly.csv",
  "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,600.0,2,0,a\n2017-10-09 07:03:55,60.0,1,0,b\n",
);

describe("scheduler simulate", () => {
  test("prints a table on request and JSON in a pipe, all of it labelled as simulated, the same bytes each time", async () => {
    const args = [...fleet, ...load, "--faults", "node=2d,gpu=20d", "--seed", "7"];
    const table = await simulate(...args, "-o", "table");
    expect(table.code).toBe(0);
    expect(table.stdout).toMatch(/^synthetic 150 on 4 nodes \(simulated\)\n/);
    for (const row of ["GPUs allocated", "fairness index", "all, to the first lease", "tenant-b"]) {
      expect(table.stdout).toContain(`  ${row}`);
    }
    const [once, again] = [await simulate(...args), await simulate(...args)];
    expect(again.stdout).toBe(once.stdout);
    const report = JSON.parse(once.stdout) as FleetReport;
    expect(report).toMatchObject({ simulated: true, seed: 7, workload: { tasks: 150 } });
    expect(report.tasks.succeeded + report.tasks.failed).toBe(150);
    expect(report.tenants.map(({ weight }) => weight)).toEqual([1, 3]);
  });

  test("compares two policies on the same load, and writes a page that needs nothing else", async () => {
    const other = file("packing.yaml", "placement: packing\n");
    const html = join(folder, "page.html");
    const { code, stdout, stderr } = await simulate(
      ...[...fleet, ...load, "--policy", other, "--compare", "default", "--json", "--html", html],
    );
    expect(stderr).toContain(html);
    expect(code).toBe(0);
    const { before, after, changes } = JSON.parse(stdout) as Comparison;
    expect(before.policy.placement).toBe("packing");
    expect(after.policy.placement).toBe("default");
    expect(changes.map(({ figure }) => figure)).toEqual(
      expect.arrayContaining(["waiting, p99", "fairness index", "GPUs at useful work", "cost"]),
    );
    const page = readFileSync(html, "utf8");
    expect(page).not.toMatch(/<script|https?:\/\/|@import|url\(/);
    for (const title of ["Utilisation", "Waiting", "Fairness", "Fragmentation"]) {
      expect(page).toContain(`<h2>${title}</h2>`);
    }
    expect(page).toContain("Simulated:");
  });

  test("refuses a page that cannot be written before it simulates", async () => {
    const args = [...fleet, ...load, "--html", join(folder, "none", "page.html")];
    const { code, stdout, stderr } = await simulate(...args);
    expect({ code, stdout }).toEqual({ code: 77, stdout: "" });
    expect(stderr).toMatch(/^error: cannot write .*page\.html\n {2}why: ENOENT.*\n {2}try: --html/);
  });

  test("plays the public traces' formats", async () => {
    const openb = await simulate("--nodes", nodes, "--workload", `openb:${pods}`);
    expect(JSON.parse(openb.stdout)).toMatchObject({
      fleet: { nodes: 2, gpus: 4, models: { T4: 2, A10: 2 } },
      workload: { name: "mine", tasks: 3 },
      tasks: { succeeded: 3 },
    });
    const philly = await simulate(...fleet, "--workload", `philly:${jobs}`, "--first", "1");
    expect(JSON.parse(philly.stdout)).toMatchObject({
      tasks: { succeeded: 1 },
      workload: { tasks: 1 },
    });
    const fast = await simulate("--nodes", nodes, "--workload", `openb:${pods}`, "--speed", "10");
    const report = JSON.parse(fast.stdout) as FleetReport;
    expect(report.workload.notes.join()).toContain("10 times as fast");
    expect(report.tasks.succeeded).toBe(3);
    const cut = await simulate(...fleet, "--workload", `philly:${jobs}`, "--until", "5m");
    expect(JSON.parse(cut.stdout)).toMatchObject({ tasks: { succeeded: 1, running: 1 } });
  });

  test("injects faults from a list, and takes queues with limits and reservations", async () => {
    const faults = file(
      "faults.yaml",
      "- {kind: node_loss, at: 30m, node: node-0000, lasts: 1h}\n" +
        "- {kind: rack_loss, at: 2h, rack: rack-0-1, lasts: 10m}\n" +
        "- {kind: gpu_fault, at: 1h, node: node-0001, gpu: 3, lasts: 1d}\n" +
        "- {kind: drain, at: 1h, node: node-0001, lasts: 1h}\n",
    );
    const queues = file(
      "queues.yaml",
      "queues: [{org: tenant-a, weight: 5, limitGpus: 4}]\n" +
        "reservations: [{name: r, org: tenant-b, gpus: 2, start: 1h, end: 2h}]\n",
    );
    const { stdout, stderr } = await simulate(
      ...[...fleet, ...load, "--faults", faults, "--queues", queues],
    );
    expect(stderr).toBe("");
    const report = JSON.parse(stdout) as FleetReport;
    expect(report.faults).toEqual({ node_loss: 3, gpu_fault: 1, disconnect: 0, drain: 1 });
    expect(report.tenants.map(({ weight }) => weight)).toEqual([5, 1]);
    expect(Math.max(...report.series.tenants[0]!.held)).toBeLessThanOrEqual(4);
  });

  test("takes a fleet as JSON", async () => {
    const node = { name: "n", cpuMillis: 64_000, memoryMib: 262_144, gpus: 2, model: "T4" };
    const path = file("fleet.json", JSON.stringify([node, { ...node, name: "m" }]));
    const { stdout } = await simulate("--nodes", path, ...load);
    expect(JSON.parse(stdout)).toMatchObject({ fleet: { nodes: 2, gpus: 4 } });
  });

  test.each([
    [["--nodes", "nope.csv"], 66, "there is no file nope.csv"],
    [["--nodes", "8xH100"], 65, 'nodes: "8xH100" is no group of nodes'],
    [["--nodes", pods], 65, 'column "sn": missing'],
    [["--nodes", file("half.json", "[{")], 65, "half.json: "],
    [["--nodes", file("odd.json", '[{"name":"n"}]')], 65, "odd.json: node 0.cpuMillis"],
    [["--workload", "openb:/nope"], 66, "there is no file /nope"],
    [["--workload", `openb:${nodes}`], 65, 'nodes.csv:1: column "name": missing'],
    [["--workload", `philly:${pods}`], 65, 'column "timestamp": missing'],
    [["--workload", "what"], 65, "is none of openb:FILE"],
    [["--policy", file("bad.yaml", "order: {gap: 1}")], 65, "bad.yaml"],
    [["--policy", file("far.yaml", "order: {gapMd: 0}")], 65, "order.gapMd: 0 is not in"],
    [["--faults", "node=soon"], 65, "a time is wanted"],
    [["--faults", file("f1.yaml", "- {kind: storm}")], 65, "f1.yaml: 0.kind"],
    [
      ["--faults", file("f2.yaml", "- {kind: node_loss, at: 1h, node: nobody, lasts: 1h}")],
      65,
      "fault 1: there is no node nobody",
    ],
    [
      ["--faults", file("f3.yaml", "- {kind: node_loss, at: soon, node: nobody, lasts: 1h}")],
      65,
      "a time is wanted",
    ],
    [["--queues", file("q.yaml", "queues: [{org: a, weight: 0}]")], 65, "q.yaml: queues.0.weight"],
    [["--price", "cheap"], 65, "is no price"],
    [["--seed", "-1"], 64, "--seed"],
    [["--html", join(folder, "no/such/page.html")], 77, "cannot write"],
  ])("refuses %j", async (args, exitCode, message) => {
    const { code, stderr } = await simulate(...fleet, ...load, ...args);
    expect(stderr).toContain(message);
    expect(code).toBe(exitCode);
  });
});

import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openInventory } from "../src/gpu/inventory.ts";
import { openNvml } from "../src/gpu/nvml.ts";
import { parseXid, samePciDevice } from "../src/gpu/xid.ts";

const compiler = ["cc", "gcc", "clang"].find((name) => spawnSync(name, ["--version"]).status === 0);
if (compiler === undefined) console.log("NVML tests skipped: no C compiler here");

describe.skipIf(compiler === undefined)("NVML", () => {
  test("two GPUs of a library are found with their figures; what one does not give is absent", async () => {
    const library = join(mkdtempSync(join(tmpdir(), "nvml-")), "libnvidia-ml.so.1");
    const source = fileURLToPath(new URL("./nvml-stub.c", import.meta.url));
    const built = spawnSync(compiler ?? "cc", ["-shared", "-fPIC", "-o", library, source]);
    expect(built.stderr.toString()).toBe("");
    using inventory = await openInventory({
      real: true,
      simulatedCount: 0,
      seed: "x",
      load: () => 0,
      library,
    });
    expect(inventory.devices).toMatchObject([
      { index: 0, uuid: "GPU-stub-0", model: "Stub GPU", memoryMib: 81_920, simulated: false },
      { index: 1, uuid: "GPU-stub-1", pciBusId: "00000000:31:00.0" },
    ]);
    expect(inventory.read(1)).toEqual({
      utilizationPercent: 41,
      memoryUsedMib: 2_048,
      memoryFreeMib: 79_872,
      temperatureCelsius: 55,
      powerWatts: 123.456,
      smClockMhz: 1_410,
      memoryClockMhz: 1_593,
      totalEnergyMillijoules: undefined,
      xid: 0,
    });
  });
});

test("a missing library means no GPUs, not an error, and nothing is simulated unasked", async () => {
  expect(await openNvml("libfastgpu-no-such-library.so.1")).toBeUndefined();
  const common = { real: true, seed: "x", load: () => 0.5, library: "libnothing.so" };
  using none = await openInventory({ ...common, simulatedCount: 0 });
  expect(none.devices).toEqual([]);
  using simulated = await openInventory({ ...common, simulatedCount: 2 });
  expect(simulated.devices.map((d) => d.simulated)).toEqual([true, true]);
  using again = await openInventory({ ...common, simulatedCount: 2 });
  expect(again.devices.map((d) => d.uuid)).toEqual(simulated.devices.map((d) => d.uuid));
});

test("XID lines count only from the kernel, and both spellings of an address are one device", () => {
  const line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.";
  expect(parseXid(`3,1234,5678,-;${line}`)).toEqual({ pciBusId: "0000:3b:00", xid: 79 });
  expect(parseXid(`14,1234,5678,-;${line}`)).toBeUndefined();
  expect(parseXid("3,1234,5678,-;something else")).toBeUndefined();
  expect(samePciDevice("0000:3b:00", "00000000:3B:00.0")).toBe(true);
  expect(samePciDevice("0000:3b:00", "00000000:3C:00.0")).toBe(false);
});

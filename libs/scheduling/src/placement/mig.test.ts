import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Placement } from "./cluster.ts";
import { PlacementEngine } from "./engine.ts";
import { bestMigStart, fitsMig, migProfiles, migSlices } from "./mig.ts";
import { emptyRequest, type ResourceRequest, type Shape } from "./shapes.ts";

const profile = (id: string) => migProfiles.get(id)!;
const request = (id: string, owner = ""): ResourceRequest => ({
  ...emptyRequest,
  gpus: 1,
  migProfile: id,
  gpuMilli: profile(id).gpuMilli,
  owner,
});

/** An engine over one node with GPUs in MIG mode, and plain ones. */
function engineOf({ inMig, plain = 0 }: { inMig: number; plain?: number }): PlacementEngine {
  const gpu = {
    model: "NVIDIA H100",
    memoryMib: 81_920,
    capacityMilli: 1000,
    isolation: "exclusive" as const,
    simulated: true,
  };
  const gpus = Array.from({ length: inMig + plain }, (_, index) => ({
    ...gpu,
    id: `gpu-${index}`,
    ...(index < inMig ? { mig: "h100-80" as const } : {}),
  }));
  const host = { cpuMillis: 64_000, memoryMib: 65_536, diskMib: 0, schedulable: true };
  const nodes = [{ id: "node-a", ...host, topology: {}, gpus }];
  return new PlacementEngine({ nodes, policy: "default", rng: () => 0.5 });
}

describe("a GPU in MIG mode", () => {
  test.each([
    ["h100-80/1g.10gb", 7],
    ["h100-80/1g.20gb", 4],
    ["h100-80/2g.20gb", 3],
    ["h100-80/3g.40gb", 2],
    ["h100-80/4g.40gb", 1],
    ["h100-80/7g.80gb", 1],
  ])("holds as many %s as NVIDIA states: %i", (id, most) => {
    const engine = engineOf({ inMig: 1 });
    const shape = engine.shape(request(id));
    let placed = 0;
    while (engine.place(shape) !== undefined) placed++;
    expect(placed).toBe(most);
  });

  test.each([
    [["h100-80/4g.40gb", "h100-80/3g.40gb"], true],
    [["h100-80/3g.40gb", "h100-80/4g.40gb"], true],
    [["h100-80/1g.10gb", "h100-80/1g.10gb", "h100-80/1g.10gb", "h100-80/4g.40gb"], true],
    [["h100-80/3g.40gb", "h100-80/3g.40gb", "h100-80/1g.10gb"], false],
    [["h100-80/4g.40gb", "h100-80/4g.40gb"], false],
    [["h100-80/1g.10gb", "h100-80/7g.80gb"], false],
  ])("takes %j in this order: %s", (ids, fits) => {
    const engine = engineOf({ inMig: 1 });
    const placed = ids.map((id) => engine.place(engine.shape(request(id))) !== undefined);
    expect(placed.every(Boolean)).toBe(fits);
  });

  test("is shared by tenants, and says why a task has no place on it", () => {
    const engine = engineOf({ inMig: 1, plain: 1 });
    expect(engine.place(engine.shape(request("h100-80/3g.40gb", "x")))).toBeDefined();
    expect(engine.place(engine.shape(request("h100-80/3g.40gb", "y")))).toBeDefined();
    const blockers = (id: string) => engine.explain(engine.shape(request(id))).blockers;
    expect(blockers("h100-80/1g.10gb")).toMatchObject([{ reason: "gpu_busy", nodes: 1 }]);
    expect(blockers("a100-40/1g.5gb")).toMatchObject([{ reason: "gpu_mig", nodes: 1 }]);
  });

  test("is never given out whole or in plain shares, nor a plain GPU in instances", () => {
    const whole = { ...emptyRequest, gpus: 1, gpuMilli: 1000 };
    const inMig = engineOf({ inMig: 1 });
    expect(inMig.find(inMig.shape(whole))).toBeUndefined();
    expect(inMig.find(inMig.shape({ ...whole, gpuMilli: 250 }))).toBeUndefined();
    const plain = engineOf({ inMig: 0, plain: 1 });
    expect(plain.find(plain.shape(request("h100-80/1g.10gb")))).toBeUndefined();
    expect(plain.find(plain.shape(whole))).toBeDefined();
  });
});

test("an unknown profile, a part that is not the profile's and an instance of no GPU are refused", () => {
  const engine = engineOf({ inMig: 1 });
  const known = request("h100-80/2g.20gb");
  const refused = [
    { ...known, migProfile: "h100-80/5g.50gb" },
    { ...known, gpuMilli: 300 },
    { ...known, gpus: 0, gpuMilli: 0 },
  ];
  for (const each of refused) expect(() => engine.shape(each)).toThrow(RangeError);
});

const ids = [...migProfiles.keys()].filter((id) => id.startsWith("h100-80/"));

test("instances never overlap, whatever comes and goes, and all room comes back", () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...ids) },
    { weight: 2, arbitrary: fc.nat() },
  );
  const property = fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const engine = engineOf({ inMig: 2 });
    const fresh = engine.hash();
    const running: { shape: Shape; placement: Placement }[] = [];
    for (const each of steps) {
      if (typeof each === "string") {
        const shape = engine.shape(request(each));
        const placement = engine.place(shape);
        const fits = [0, 1].some((gpu) => fitsMig(shape.mig!, takenOn(gpu, running)));
        // An instance is refused only where no GPU has slices for it, and an accepted one lies beside all others.
        expect(placement !== undefined).toBe(fits);
        if (placement !== undefined) running.push({ shape, placement });
      } else if (running.length > 0) {
        const [ended] = running.splice(each % running.length, 1);
        engine.release(ended!.shape, ended!.placement);
      }
    }
    for (const { shape, placement } of running) engine.release(shape, placement);
    expect(engine.hash()).toBe(fresh);
  });
  fc.assert(property, { numRuns: 300 });
});

/** The slices that are taken on a GPU; fails where two instances share one. */
function takenOn(gpu: number, running: readonly { shape: Shape; placement: Placement }[]): number {
  let taken = 0;
  for (const { shape, placement } of running) {
    if (placement.gpus[0] !== gpu) continue;
    const slices = migSlices(shape.mig!, placement.starts![0]!);
    expect(taken & slices).toBe(0);
    taken |= slices;
  }
  return taken;
}

test("an instance lies where most room is left: a small one first leaves place for a half", () => {
  const start = bestMigStart(profile("h100-80/1g.10gb"), 0);
  const taken = migSlices(profile("h100-80/1g.10gb"), start);
  expect(fitsMig(profile("h100-80/4g.40gb"), taken)).toBe(true);
});

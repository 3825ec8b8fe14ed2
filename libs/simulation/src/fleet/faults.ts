import { seededRandom } from "../openb/seeded.ts";
import type { FleetNode, SpecProblem } from "./inventory.ts";

/** Something that goes wrong with the hardware, or is taken out on purpose. Nodes by their index in the fleet. */
export type FleetFault =
  /** A machine dies with all that runs on it, and comes back empty. */
  | {
      readonly kind: "node_loss";
      readonly atMs: number;
      readonly node: number;
      readonly lastsMs: number;
    }
  /** A GPU reports an XID: what runs there ends, and it goes to repair. */
  | {
      readonly kind: "gpu_fault";
      readonly atMs: number;
      readonly node: number;
      readonly gpu: number;
      readonly xid: number;
      readonly lastsMs: number;
    }
  /** The worker cannot reach the scheduler for a while; its tasks run on until their lease ends. */
  | {
      readonly kind: "disconnect";
      readonly atMs: number;
      readonly node: number;
      readonly lastsMs: number;
    }
  /** Planned: no new work, what still runs after the grace is stopped to go on elsewhere. */
  | {
      readonly kind: "drain";
      readonly atMs: number;
      readonly node: number;
      readonly graceMs: number;
      readonly lastsMs: number;
    };

/** How often things go wrong: mean times between two faults of one unit, Infinity for never. */
export interface FaultModel {
  readonly nodeMtbfMs: number;
  readonly nodeMttrMs: number;
  readonly rackMtbfMs: number;
  readonly rackMttrMs: number;
  /** Of one GPU. */
  readonly gpuMtbfMs: number;
  readonly gpuMttrMs: number;
  /** Between two bouts of flapping of one worker, each of some disconnections in a row. */
  readonly flapMtbfMs: number;
  /** Mean length of one disconnection. */
  readonly flapMs: number;
  /** Between two drains of one node. */
  readonly drainMtbfMs: number;
  readonly drainMs: number;
  readonly drainGraceMs: number;
}

const hourMs = 3_600_000;
const never = Number.POSITIVE_INFINITY;

/** Nothing ever goes wrong. */
export const noFaults: FaultModel = {
  nodeMtbfMs: never,
  nodeMttrMs: 2 * hourMs,
  rackMtbfMs: never,
  rackMttrMs: 4 * hourMs,
  gpuMtbfMs: never,
  gpuMttrMs: 12 * hourMs,
  flapMtbfMs: never,
  flapMs: 10_000,
  drainMtbfMs: never,
  drainMs: hourMs,
  drainGraceMs: 600_000,
};

/**
 * A fleet as published ones are: 419 unexpected interruptions in 54 days on 2,048 nodes of eight H100, 59 % by GPUs ("The
 * Llama 3 Herd of Models", arXiv 2407.21783), which is one in 264 days of a node: half of them by a GPU here, half by the
 * rest of the node. Racks, networks and drains are a guess.
 */
export const usualFaults: FaultModel = {
  ...noFaults,
  nodeMtbfMs: 528 * 24 * hourMs,
  rackMtbfMs: 720 * 24 * hourMs,
  gpuMtbfMs: 8 * 528 * 24 * hourMs,
  flapMtbfMs: 90 * 24 * hourMs,
  drainMtbfMs: 60 * 24 * hourMs,
};

/** XIDs that take a GPU out of service, as they fall in practice. */
const xids = [79, 48, 63, 74, 95, 119] as const;

/** Draws all faults of a span, by time; the same seed draws the same. None begins at or after the end of the span. */
export function drawFaults(options: {
  readonly model: FaultModel;
  readonly nodes: readonly FleetNode[];
  readonly fromMs: number;
  readonly untilMs: number;
  readonly seed: number;
}): readonly FleetFault[] {
  const { model, nodes } = options;
  const faults: FleetFault[] = [];
  const draw = new Draw(options);
  for (const [node, { gpus }] of nodes.entries()) {
    draw.times(model.nodeMtbfMs, (atMs) => {
      faults.push({ kind: "node_loss", atMs, node, lastsMs: draw.about(model.nodeMttrMs) });
    });
    for (let gpu = 0; gpu < gpus; gpu++) {
      draw.times(model.gpuMtbfMs, (atMs) => {
        const xid = xids[draw.below(xids.length)]!;
        const lastsMs = draw.about(model.gpuMttrMs);
        faults.push({ kind: "gpu_fault", atMs, node, gpu, xid, lastsMs });
      });
    }
    draw.times(model.flapMtbfMs, (atMs) => {
      faults.push(
        ...flapping(draw, { node, atMs, untilMs: options.untilMs, flapMs: model.flapMs }),
      );
    });
    draw.times(model.drainMtbfMs, (atMs) => {
      const { drainGraceMs: graceMs } = model;
      const lastsMs = graceMs + draw.about(model.drainMs);
      faults.push({ kind: "drain", atMs, node, graceMs, lastsMs });
    });
  }
  for (const [, members] of racksOf(nodes)) {
    draw.times(model.rackMtbfMs, (atMs) => {
      const lastsMs = draw.about(model.rackMttrMs);
      for (const node of members) faults.push({ kind: "node_loss", atMs, node, lastsMs });
    });
  }
  return faults.toSorted((a, b) => a.atMs - b.atMs);
}

/** Nodes by rack, in the order of the fleet; those without one are left out. */
export function racksOf(nodes: readonly FleetNode[]): ReadonlyMap<string, readonly number[]> {
  const racks = new Map<string, number[]>();
  for (const [index, { rack }] of nodes.entries()) {
    if (rack === undefined) continue;
    const members = racks.get(rack);
    if (members === undefined) racks.set(rack, [index]);
    else members.push(index);
  }
  return racks;
}

/** Three to eight disconnections in a row, with about as much time between them. */
function flapping(
  draw: Draw,
  bout: { node: number; atMs: number; untilMs: number; flapMs: number },
): readonly FleetFault[] {
  const faults: FleetFault[] = [];
  let { atMs } = bout;
  for (let left = 3 + draw.below(6); left > 0 && atMs < bout.untilMs; left--) {
    const lastsMs = draw.about(bout.flapMs);
    faults.push({ kind: "disconnect", atMs, node: bout.node, lastsMs });
    atMs += lastsMs + draw.about(bout.flapMs);
  }
  return faults;
}

class Draw {
  private readonly random: () => number;
  private readonly fromMs: number;
  private readonly untilMs: number;

  constructor({ seed, fromMs, untilMs }: { seed: number; fromMs: number; untilMs: number }) {
    this.random = seededRandom(seed);
    this.fromMs = fromMs;
    this.untilMs = untilMs;
  }

  /** Times of a Poisson process. */
  times(meanMs: number, each: (atMs: number) => void): void {
    if (!Number.isFinite(meanMs)) return;
    for (let atMs = this.fromMs; ;) {
      atMs += this.about(meanMs);
      if (atMs >= this.untilMs) return;
      each(atMs);
    }
  }

  /** Exponential with this mean, at least a millisecond. */
  about(meanMs: number): number {
    return Math.max(1, Math.round(-Math.log(1 - this.random()) * meanMs));
  }

  below(count: number): number {
    return Math.floor(this.random() * count);
  }
}

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: hourMs,
  d: 24 * hourMs,
  y: 365 * 24 * hourMs,
};

/** What a spec of faults may set: mean time between two faults of one unit, and how long they last. */
const specKeys = {
  node: "nodeMtbfMs",
  "node-repair": "nodeMttrMs",
  rack: "rackMtbfMs",
  "rack-repair": "rackMttrMs",
  gpu: "gpuMtbfMs",
  "gpu-repair": "gpuMttrMs",
  flap: "flapMtbfMs",
  drain: "drainMtbfMs",
} as const satisfies Record<string, keyof FaultModel>;

/**
 * Parses `usual`, `none`, or times like `node=60d,gpu=300d,rack=1y,gpu-repair=12h`: how long one node, GPU or rack runs
 * between two faults in the mean. What is not named does not fail.
 */
export function parseFaults(
  spec: string,
): { readonly kind: "ok"; readonly model: FaultModel } | SpecProblem {
  if (spec === "usual") return { kind: "ok", model: usualFaults };
  if (spec === "none") return { kind: "ok", model: noFaults };
  let model = noFaults;
  for (const part of spec.split(",")) {
    const [key = "", value = ""] = part.split("=").map((text) => text.trim());
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|y)$/.exec(value);
    if (!Object.hasOwn(specKeys, key)) {
      const known = Object.keys(specKeys).join(", ");
      return { kind: "bad", problem: `"${key}" is none of usual, none, ${known}` };
    }
    const ms = Math.round(Number(match?.[1]) * unitsMs[match?.[2] ?? ""]!);
    if (!(ms >= 1)) {
      return { kind: "bad", problem: `"${part.trim()}": a time is wanted, for example ${key}=60d` };
    }
    model = { ...model, [specKeys[key as keyof typeof specKeys]]: ms };
  }
  return { kind: "ok", model };
}

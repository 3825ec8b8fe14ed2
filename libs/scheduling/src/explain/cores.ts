import type { Demand, PlanNode, PlanState, PlanTask } from "../plan.ts";
import type { Lengths } from "./future.ts";
import type { Start } from "./slots.ts";

type Needs = Pick<Demand, "cpuMillis" | "memoryMib" | "diskMib">;

/** Parts are sums of fractions. */
const negligible = 1e-9;

/**
 * What tasks without GPUs share of a fleet: its cores, memory and disk as one, each task counted by the greatest part that
 * it needs of any of them (the dominant resource of Ghodsi et al., NSDI '11). What tasks with GPUs hold stays held, as
 * others like them follow.
 */
export class Cores {
  private free: number;
  /** Since when so much is free. */
  private sinceMs: number;
  /** What is given back, the next one last. */
  private readonly ends: { readonly atMs: number; readonly part: number }[];
  private readonly all: Needs;

  constructor(of: {
    readonly state: PlanState;
    readonly nowMs: number;
    readonly lengths: Lengths;
  }) {
    const { state, nowMs, lengths } = of;
    const nodes = state.nodes.filter(({ acceptsWork }) => acceptsWork);
    this.all = sumOf(nodes);
    const running = nodes.flatMap((node: PlanNode) => node.running);
    this.sinceMs = nowMs;
    this.free = 1 - this.partOf(sumOf(running));
    this.ends = running
      .filter(({ gpus }) => gpus.length === 0)
      .map((lease) => ({
        atMs: Math.max(nowMs, lengths.endMs(lease)),
        part: this.partOf(lease),
      }))
      .sort((a, b) => b.atMs - a.atMs);
  }

  /** As {@link Slots.take}. */
  take(
    { demand, replicas }: Pick<PlanTask, "demand" | "replicas">,
    { fromMs, forMs }: { readonly fromMs: number; readonly forMs: number },
  ): Start {
    const part = replicas * this.partOf(demand);
    for (let end = this.ends.at(-1); this.free < part - negligible; end = this.ends.at(-1)) {
      if (end === undefined || end.atMs === Infinity) return { kind: "starts", atMs: Infinity };
      this.ends.pop();
      this.free += end.part;
      this.sinceMs = end.atMs;
    }
    this.free -= part;
    const startMs = Math.max(fromMs, this.sinceMs);
    const atMs = startMs + forMs;
    const after = this.ends.findLastIndex((end) => end.atMs >= atMs) + 1;
    this.ends.splice(after, 0, { atMs, part });
    return { kind: "starts", atMs: startMs };
  }

  private partOf(needs: Needs): number {
    const { cpuMillis, memoryMib, diskMib } = this.all;
    const parts = [
      needs.cpuMillis / Math.max(1, cpuMillis),
      needs.memoryMib / Math.max(1, memoryMib),
      needs.diskMib / Math.max(1, diskMib),
    ];
    return Math.max(...parts);
  }
}

function sumOf(each: readonly Needs[]): Needs {
  let [cpuMillis, memoryMib, diskMib] = [0, 0, 0];
  for (const needs of each) {
    cpuMillis += needs.cpuMillis;
    memoryMib += needs.memoryMib;
    diskMib += needs.diskMib;
  }
  return { cpuMillis, memoryMib, diskMib };
}

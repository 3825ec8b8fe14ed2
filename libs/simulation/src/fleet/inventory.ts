import { sharedGrades } from "@fastgpu/scheduling/gpu-part";
import { migProfiles, type MigGeometryName } from "@fastgpu/scheduling/placement/mig";
import type { GpuMode } from "@fastgpu/scheduling/plan";
import type { OpenbNode } from "../openb/trace.ts";

/** A node of a simulated fleet. */
export interface FleetNode {
  readonly name: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  /** One model a node, as machines are built. */
  readonly model: string;
  readonly gpus: number;
  readonly gpuMemoryMib: number;
  /** Undefined: in no rack that is known. */
  readonly rack: string | undefined;
  /** NVLink domain over several nodes. */
  readonly nvlink: string | undefined;
  /** How all of its GPUs are given out; absent: whole. */
  readonly mode?: GpuMode | undefined;
}

/** Something that was typed and cannot be used, for the person who typed it. */
export interface SpecProblem {
  readonly kind: "bad";
  readonly problem: string;
}

/** Memory of known models, in MiB, by a part of their name, the longest first. */
const memoryOf: readonly (readonly [part: string, memoryMib: number])[] = [
  ["GB200", 188_416],
  ["B300", 294_912],
  ["B200", 184_320],
  ["H200", 143_771],
  ["H100", 81_559],
  ["A100-SXM4-40GB", 40_960],
  ["A100", 81_920],
  ["RTX 6000", 49_140],
  ["L40S", 46_068],
  ["L40", 46_068],
  ["V100M32", 32_768],
  ["V100", 16_384],
  ["P100", 16_384],
  ["A10", 24_576],
  ["L4", 24_576],
  ["G2", 24_576],
  ["G3", 32_768],
  ["T4", 16_384],
];

/** Memory of a GPU by its model in MiB; 16 GiB where the model is not known. */
export function gpuMemoryMib(model: string): number {
  const upper = model.toUpperCase();
  return memoryOf.find(([part]) => upper.includes(part))?.[1] ?? 16_384;
}

/**
 * Nodes of an openb list. The list names no racks: `rackOf` nodes in its order make one (0: no racks). Its pods share
 * GPUs, by what means it does not say: time slices, where nothing else is wished.
 */
export function openbInventory(
  nodes: readonly OpenbNode[],
  rackOf: number,
  mode: GpuMode = { isolation: "timeslice" },
): readonly FleetNode[] {
  return nodes.map(({ id, cpuMillis, memoryMib, gpus, model }, at) => ({
    name: id,
    cpuMillis,
    memoryMib,
    diskMib: 0,
    model,
    gpus,
    gpuMemoryMib: gpuMemoryMib(model),
    rack: rackOf > 0 ? `rack-${Math.floor(at / rackOf)}` : undefined,
    nvlink: undefined,
    ...(gpus === 0 ? {} : { mode }),
  }));
}

const cpuMillisPerGpu = 16_000;
const memoryMibPerGpu = 131_072;
const cpuNode = { cpuMillis: 64_000, memoryMib: 262_144 };
const maxNodes = 100_000;

/**
 * Parses a fleet like `8x NVIDIA H200 x 16 nodes, racks of 4; 4x A10 x 8 nodes, 64 cores, 256Gi`. Groups are separated by
 * `;`; after the number of nodes a group may say `racks of N`, `nvlink of N`, `N cores` and `N Gi`, and how its GPUs are
 * shared: `timeslice`, `mps`, `dmem_timeslice`, `dmem_mps` or `mig h100-80`. Without these: no racks, 16 cores and
 * 128 GiB for each GPU, whole GPUs.
 */
export function parseInventory(
  spec: string,
): { readonly kind: "ok"; readonly nodes: readonly FleetNode[] } | SpecProblem {
  const nodes: FleetNode[] = [];
  for (const [at, text] of spec.split(";").entries()) {
    const group = parseGroup(text.trim());
    if ("problem" in group) return group;
    if (nodes.length + group.count > maxNodes) {
      return { kind: "bad", problem: `a fleet has at most ${maxNodes} nodes` };
    }
    for (let n = 0; n < group.count; n++) nodes.push(nodeOf(group, at, nodes.length, n));
  }
  return { kind: "ok", nodes };
}

interface Group {
  readonly gpus: number;
  readonly model: string;
  readonly count: number;
  readonly racksOf: number;
  readonly nvlinkOf: number;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly mode: GpuMode | undefined;
}

const form = 'a fleet is written like "8x NVIDIA H200 x 16 nodes, racks of 4"';

function parseGroup(text: string): Group | SpecProblem {
  const [head = "", ...options] = text.split(",").map((part) => part.trim());
  const match = /^(?:(\d+)\s*[x×]\s*(\S(?:.*\S)?)\s*[x×]\s*)?(\d+)\s*nodes?$/i.exec(head);
  if (match === null) return { kind: "bad", problem: `"${text}" is no group of nodes: ${form}` };
  const gpus = Number(match[1] ?? 0);
  const count = Number(match[3]);
  if (gpus > 64) return { kind: "bad", problem: `"${text}": a node has at most 64 GPUs` };
  if (count < 1) return { kind: "bad", problem: `"${text}": a group has at least one node` };
  const group = {
    gpus,
    model: gpus === 0 ? "" : (match[2] ?? ""),
    count,
    racksOf: 0,
    nvlinkOf: 0,
    cpuMillis: gpus === 0 ? cpuNode.cpuMillis : gpus * cpuMillisPerGpu,
    memoryMib: gpus === 0 ? cpuNode.memoryMib : gpus * memoryMibPerGpu,
    mode: undefined,
  };
  for (const option of options) {
    const problem = applyOption(group, option);
    if (problem !== undefined) return { kind: "bad", problem: `"${text}": ${problem}` };
  }
  return group;
}

type Mutable<Type> = { -readonly [Key in keyof Type]: Type[Key] };

function applyOption(group: Mutable<Group>, option: string): string | undefined {
  const place = /^(racks?|nvlink(?: domains?)?) of (\d+)$/i.exec(option);
  if (place !== null) {
    const size = Number(place[2]);
    if (size < 1) return `"${option}": at least one node`;
    if (/^rack/i.test(option)) group.racksOf = size;
    else group.nvlinkOf = size;
    return undefined;
  }
  const mode = parseMode(option);
  if (mode !== undefined) {
    group.mode = mode;
    return undefined;
  }
  const amount = /^(\d+)\s*(cores?|Gi|GiB|Ti|TiB)$/i.exec(option);
  const value = Number(amount?.[1]);
  if (amount === null || !(value > 0)) {
    return `"${option}" is none of: racks of N, nvlink of N, N cores, N Gi, ${modeNames.join(", ")}`;
  }
  const unit = amount[2]!.toLowerCase();
  if (unit.startsWith("core")) group.cpuMillis = value * 1000;
  else group.memoryMib = value * (unit.startsWith("t") ? 1_048_576 : 1_024);
  return undefined;
}

const geometries: readonly MigGeometryName[] = [
  ...new Set([...migProfiles.values()].map(({ geometry }) => geometry)),
];

/** The ways to give out GPUs that a fleet may name. */
const modes: readonly (readonly [name: string, mode: GpuMode])[] = [
  ["whole", { isolation: "exclusive" }],
  ...sharedGrades.map((isolation) => [isolation, { isolation }] as const),
  ...geometries.map((geometry) => [`mig ${geometry}`, { isolation: "mig", geometry }] as const),
];
/** Their names. */
export const modeNames: readonly string[] = modes.map(([name]) => name);

/** A way to give out GPUs by its name, such as `timeslice` or `mig h100-80`; undefined: it is none. */
export function parseMode(text: string): GpuMode | undefined {
  const name = text.trim().toLowerCase().replace(/\s+/, " ");
  return modes.find(([known]) => known === name)?.[1];
}

/** Whether a node gives out shares of its GPUs. */
export const sharesGpus = ({ mode }: FleetNode): boolean =>
  mode !== undefined && mode.isolation !== "exclusive" && mode.isolation !== "mig";

function nodeOf(group: Group, at: number, index: number, n: number): FleetNode {
  const place = (kind: string, size: number): string | undefined =>
    size === 0 ? undefined : `${kind}-${at}-${Math.floor(n / size)}`;
  return {
    name: `node-${String(index).padStart(4, "0")}`,
    cpuMillis: group.cpuMillis,
    memoryMib: group.memoryMib,
    diskMib: 1_048_576,
    model: group.model,
    gpus: group.gpus,
    gpuMemoryMib: group.gpus === 0 ? 0 : gpuMemoryMib(group.model),
    rack: place("rack", group.racksOf),
    nvlink: place("nvlink", group.nvlinkOf),
    ...(group.mode === undefined ? {} : { mode: group.mode }),
  };
}

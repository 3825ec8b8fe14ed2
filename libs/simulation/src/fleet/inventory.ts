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

/** Nodes of an openb list. The list names no racks: `rackOf` nodes in its order make one (0: no racks). */
export function openbInventory(nodes: readonly OpenbNode[], rackOf: number): readonly FleetNode[] {
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
  }));
}

const cpuMillisPerGpu = 16_000;
const memoryMibPerGpu = 131_072;
const cpuNode = { cpuMillis: 64_000, memoryMib: 262_144 };
const maxNodes = 100_000;

/**
 * Parses a fleet like `8x NVIDIA H200 x 16 nodes, racks of 4; 4x A10 x 8 nodes, 64 cores, 256Gi`. Groups are separated by
 * `;`; after the number of nodes a group may say `racks of N`, `nvlink of N`, `N cores` and `N Gi`. Without these: no
 * racks, 16 cores and 128 GiB for each GPU.
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
  const amount = /^(\d+)\s*(cores?|Gi|GiB|Ti|TiB)$/i.exec(option);
  const value = Number(amount?.[1]);
  if (amount === null || !(value > 0)) {
    return `"${option}" is none of: racks of N, nvlink of N, N cores, N Gi`;
  }
  const unit = amount[2]!.toLowerCase();
  if (unit.startsWith("core")) group.cpuMillis = value * 1000;
  else group.memoryMib = value * (unit.startsWith("t") ? 1_048_576 : 1_024);
  return undefined;
}

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
  };
}

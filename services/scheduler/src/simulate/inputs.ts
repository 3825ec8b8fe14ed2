import { readFile, stat } from "node:fs/promises";
import { Fault } from "@fastgpu/domain/fault";
import {
  modeNames,
  openbInventory,
  parseInventory,
  parseMode,
  sharesGpus,
  type FleetNode,
} from "@fastgpu/simulation/fleet/inventory";
import { drawLoad, parseLoad } from "@fastgpu/simulation/fleet/load";
import { openbWorkload, phillyWorkload, trainingTrace } from "@fastgpu/simulation/fleet/readers";
import type { FleetWorkload } from "@fastgpu/simulation/fleet/workload";
import { describeProblem, type CsvResult } from "@fastgpu/simulation/openb/csv";
import { readOpenbNodes, readTimedOpenbPods, workloadName } from "@fastgpu/simulation/openb/trace";
import { readPhilly } from "@fastgpu/simulation/philly/trace";
import { z } from "zod";

const nodeSchema = z.strictObject({
  name: z.string().min(1),
  cpuMillis: z.int().min(0),
  memoryMib: z.int().min(0),
  diskMib: z.int().min(0).default(0),
  model: z.string().default(""),
  gpus: z.int().min(0).max(64),
  gpuMemoryMib: z.int().min(0).default(0),
  rack: z.string().optional(),
  nvlink: z.string().optional(),
  mode: z
    .string()
    .transform((name) => parseMode(name))
    .refine((mode) => mode !== undefined, `it is one of ${modeNames.join(", ")}`)
    .optional(),
});

const fleetSchema = z.array(nodeSchema).min(1);

/** Largest file that is read, in bytes: traces of some million tasks. */
const maxFileBytes = 1 << 30;

/**
 * The fleet that `--nodes` names: a file (an openb node list, or JSON: a list of nodes), else a line such as
 * `8x NVIDIA H200 x 16 nodes, racks of 4`. Throws a Fault that says what of it cannot be used, and where.
 */
export async function readFleet(
  nodes: string,
  of: { readonly racksOf: number; readonly sharing: string | undefined },
): Promise<readonly FleetNode[]> {
  if (!(await isFile(nodes))) {
    const inventory = parseInventory(nodes);
    if (inventory.kind === "ok") return inventory.nodes;
    const looksLikeFile = /[/\\]|\.(csv|json)$/.test(nodes);
    throw looksLikeFile ? noSuchFile(nodes) : Fault.invalid("nodes", inventory.problem);
  }
  const text = await readText(nodes);
  if (/^\s*\[/.test(text)) return parseFleetJson(nodes, text);
  const rows = rowsOf(readOpenbNodes(nodes, text));
  const mode = of.sharing === undefined ? undefined : parseMode(of.sharing);
  if (of.sharing !== undefined && mode === undefined) {
    throw Fault.invalid("sharing", `"${of.sharing}" is none of ${modeNames.join(", ")}`);
  }
  return openbInventory(rows, of.racksOf, mode);
}

function parseFleetJson(file: string, text: string): readonly FleetNode[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : "it is no JSON";
    throw new Fault("INVALID_FIELD", `${file}: ${why}`, { cause });
  }
  const parsed = fleetSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Fault(
      "INVALID_FIELD",
      `${file}: node ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`,
    );
  }
  const nodes = parsed.data.map((node): FleetNode => ({
    ...node,
    rack: node.rack,
    nvlink: node.nvlink,
  }));
  const names = new Set(nodes.map(({ name }) => name));
  if (names.size < nodes.length) {
    throw new Fault("INVALID_FIELD", `${file}: two nodes have the same name`);
  }
  return nodes;
}

const workloadForms = "openb:FILE, philly:FILE or synthetic:tasks=10000,weights=1:3";

/** What of a load is taken, and how. */
export interface Taken {
  /** Only so many tasks, the earliest; undefined: all. */
  readonly first: number | undefined;
  /** Arrivals so many times as fast. */
  readonly speed: number;
}

/**
 * The load that `--workload` names: `openb:FILE` (a pod list with times), `philly:FILE`, or `synthetic:SPEC`. Throws a
 * Fault that says what of it cannot be used, and where.
 */
export async function readWorkload(
  workload: string,
  of: { nodes: readonly FleetNode[]; seed: number } & Taken,
): Promise<FleetWorkload> {
  const { first, speed } = of;
  const read = await readAll(workload, of);
  const notes = [...read.notes];
  const tasks = read.tasks.slice(0, first);
  if (tasks.length < read.tasks.length) {
    notes.push(`only the first ${tasks.length} of ${read.tasks.length} tasks`);
  }
  if (speed === 1) return { ...read, tasks, notes };
  notes.push(`tasks arrive ${speed} times as fast as they did`);
  const startMs = tasks[0]?.atMs ?? 0;
  const faster = tasks.map((task) => ({
    ...task,
    atMs: startMs + Math.round((task.atMs - startMs) / speed),
  }));
  return { ...read, tasks: faster, notes };
}

async function readAll(
  workload: string,
  { nodes, seed }: { nodes: readonly FleetNode[]; seed: number },
): Promise<FleetWorkload> {
  const [kind, rest] = splitOnce(workload);
  const gpusPerNode = nodes.reduce((most, { gpus }) => Math.max(most, gpus), 0);
  const fleetGpus = nodes.reduce((sum, { gpus }) => sum + gpus, 0);
  switch (kind) {
    case "openb":
      return openbWorkload(
        workloadName(rest),
        rowsOf(readTimedOpenbPods(rest, await readText(rest))),
        { ...trainingTrace, shares: nodes.some(sharesGpus) },
      );
    case "philly": {
      const jobs = rowsOf(readPhilly(rest, await readText(rest)));
      if (gpusPerNode === 0) throw Fault.invalid("nodes", "no node has a GPU for this trace");
      return phillyWorkload(workloadName(rest), jobs, { ...trainingTrace, gpusPerNode });
    }
    case "synthetic": {
      const parsed = parseLoad(rest);
      if (parsed.kind === "bad") throw Fault.invalid("workload", parsed.problem);
      if (fleetGpus === 0) throw Fault.invalid("nodes", "no node has a GPU to load");
      const geometry = nodes.flatMap(({ mode }) =>
        mode?.isolation === "mig" ? [mode.geometry] : [],
      )[0];
      if (parsed.load.sharesMilli > 0 && !nodes.some(sharesGpus)) {
        throw Fault.invalid("nodes", "no node shares its GPUs: shares would never start");
      }
      if (parsed.load.instancesMilli > 0 && geometry === undefined) {
        throw Fault.invalid(
          "nodes",
          "no node divides its GPUs by MIG: instances would never start",
        );
      }
      return drawLoad({ ...parsed.load, fleetGpus, gpusPerNode, geometry, seed });
    }
    default:
      throw Fault.invalid("workload", `"${workload}" is none of ${workloadForms}`);
  }
}

const splitOnce = (text: string): readonly [string, string] => {
  const at = text.indexOf(":");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
};

function rowsOf<Row>(result: CsvResult<Row>): readonly Row[] {
  if (result.kind === "ok") return result.rows;
  throw new Fault("INVALID_FIELD", describeProblem(result));
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true;
}

/** A file's text. Throws NOT_FOUND, or INVALID_FIELD where it cannot be read. */
export async function readText(file: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) throw noSuchFile(file);
  if (found.size > maxFileBytes) {
    throw new Fault("INVALID_FIELD", `${file} is larger than a gibibyte`);
  }
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("INVALID_FIELD", `cannot read ${file}: ${why}`, { cause });
  }
}

const noSuchFile = (file: string): Fault =>
  new Fault("NOT_FOUND", `there is no file ${file}`, {
    metadata: { resource: file },
    hint: "fastgpu scheduler simulate --help lists what may be given",
  });

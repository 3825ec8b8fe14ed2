import { readFile } from "node:fs/promises";
import { describeProblem } from "@fastgpu/simulation/openb/csv";
import type { CsvResult } from "@fastgpu/simulation/openb/csv";
import { readOpenbNodes, readOpenbPods } from "@fastgpu/simulation/openb/trace";
import type { OpenbNode, OpenbPod } from "@fastgpu/simulation/openb/trace";
import { UsageError } from "./flags.ts";

/** Reads a file by a parser; throws UsageError with file, line and column. */
export async function readRows<Row>(
  file: string,
  parse: (file: string, text: string) => CsvResult<Row>,
): Promise<readonly Row[]> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`cannot read ${file}: ${why}`, { cause });
  }
  const result = parse(file, text);
  if (result.kind === "bad") throw new UsageError(describeProblem(result));
  return result.rows;
}

/** Reads a node list; throws UsageError with file, line and column. */
export async function readNodeFile(file: string): Promise<readonly OpenbNode[]> {
  const nodes = await readRows(file, readOpenbNodes);
  if (!nodes.some(({ gpus }) => gpus > 0)) throw new UsageError(`${file}: no node has a GPU`);
  return nodes;
}

/** Reads a pod list; throws UsageError with file, line and column. */
export async function readPodFile(file: string): Promise<readonly OpenbPod[]> {
  const pods = await readRows(file, readOpenbPods);
  if (!pods.some(({ gpus }) => gpus > 0)) throw new UsageError(`${file}: no pod asks for a GPU`);
  return pods;
}

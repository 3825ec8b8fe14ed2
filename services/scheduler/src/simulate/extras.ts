import { stat } from "node:fs/promises";
import { Fault } from "@fastgpu/domain/fault";
import {
  noFaults,
  parseFaults,
  racksOf,
  type FaultModel,
  type FleetFault,
} from "@fastgpu/simulation/fleet/faults";
import type { FleetNode } from "@fastgpu/simulation/fleet/inventory";
import type { FleetQueue, FleetReservation } from "@fastgpu/simulation/fleet/workload";
import { parse } from "yaml";
import { z } from "zod";
import { readText } from "./inputs.ts";

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `1.5h`, `2d`, in milliseconds. */
const duration = z
  .string()
  .regex(/^\d+(\.\d+)?(ms|s|m|h|d)$/, "a time is wanted, for example 90s, 10m, 2h or 1d")
  .transform((text) => {
    const [, amount = "", unit = ""] = /^([\d.]+)(\w+)$/.exec(text) ?? [];
    return Math.round(Number(amount) * (unitsMs[unit] ?? 0));
  });

const onNode = { at: duration, node: z.string(), lasts: duration };

const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("node_loss"), ...onNode }),
  z.strictObject({ kind: z.literal("disconnect"), ...onNode }),
  z.strictObject({ kind: z.literal("drain"), ...onNode, grace: duration.default(600_000) }),
  z.strictObject({
    kind: z.literal("gpu_fault"),
    ...onNode,
    gpu: z.int().min(0),
    xid: z.int().min(0).default(79),
  }),
  z.strictObject({ kind: z.literal("rack_loss"), at: duration, rack: z.string(), lasts: duration }),
]);

/** Faults to play: drawn by a model, and at given times. */
export interface Faults {
  readonly model: FaultModel;
  readonly injected: readonly FleetFault[];
}

/**
 * What `--faults` names: a file with a list (YAML or JSON; times since the first arrival, nodes and racks by name), else
 * `usual`, `none` or mean times. Throws a Fault that says what of it cannot be used.
 */
export async function readFaults(
  source: string,
  of: { nodes: readonly FleetNode[]; startMs: number },
): Promise<Faults> {
  const found = await stat(source).catch(() => undefined);
  if (found?.isFile() !== true) {
    const parsed = parseFaults(source);
    if (parsed.kind === "bad") throw Fault.invalid("faults", parsed.problem);
    return { model: parsed.model, injected: [] };
  }
  const list = await readYaml(source, z.array(faultSchema));
  const index = new Map(of.nodes.map(({ name }, at) => [name, at]));
  const racks = racksOf(of.nodes);
  const injected = list.flatMap((fault, at): readonly FleetFault[] => {
    const lastsMs = fault.lasts;
    const atMs = of.startMs + fault.at;
    if (fault.kind === "rack_loss") {
      const members = racks.get(fault.rack) ?? unknown(source, at, `rack ${fault.rack}`);
      return members.map((node) => ({ kind: "node_loss", atMs, node, lastsMs }));
    }
    const node = index.get(fault.node) ?? unknown(source, at, `node ${fault.node}`);
    switch (fault.kind) {
      case "node_loss":
      case "disconnect":
        return [{ kind: fault.kind, atMs, node, lastsMs }];
      case "drain":
        return [{ kind: "drain", atMs, node, graceMs: fault.grace, lastsMs }];
      case "gpu_fault": {
        const { gpu, xid } = fault;
        if (gpu >= of.nodes[node]!.gpus) unknown(source, at, `GPU ${gpu} on ${fault.node}`);
        return [{ kind: "gpu_fault", atMs, node, gpu, xid, lastsMs }];
      }
    }
  });
  return { model: noFaults, injected };
}

function unknown(file: string, at: number, what: string): never {
  throw new Fault("INVALID_FIELD", `${file}: fault ${at + 1}: there is no ${what}`);
}

const gpus = z.int().min(0);

const queuesSchema = z.strictObject({
  queues: z
    .array(
      z.strictObject({
        org: z.string(),
        project: z.string().optional(),
        user: z.string().optional(),
        weight: z.int().min(1).default(1),
        guaranteedGpus: gpus.default(0),
        limitGpus: gpus.optional(),
        models: z
          .record(
            z.string(),
            z
              .strictObject({ guaranteedGpus: gpus.default(0), limitGpus: gpus.optional() })
              .transform((model) => ({ ...model, limitGpus: model.limitGpus })),
          )
          .default({}),
      }),
    )
    .default([]),
  reservations: z
    .array(
      z
        .strictObject({
          name: z.string(),
          org: z.string(),
          project: z.string().optional(),
          gpus: z.int().min(1),
          perNode: z.int().min(1).optional(),
          models: z.array(z.string()).default([]),
          start: duration,
          end: duration,
        })
        .refine(({ gpus, perNode = 1 }) => gpus % perNode === 0, {
          message: "perNode must divide gpus",
          path: ["perNode"],
        }),
    )
    .default([]),
});

/** Queues and reservations of a workload, which name its organisations and projects. */
export interface Rights {
  readonly queues: readonly FleetQueue[];
  readonly reservations: readonly FleetReservation[];
}

/** Reads them from YAML or JSON; times of reservations count from the first arrival. */
export async function readRights(file: string, startMs: number): Promise<Rights> {
  const { queues, reservations } = await readYaml(file, queuesSchema);
  return {
    queues,
    reservations: reservations.map(({ start, end, ...rest }) => ({
      ...rest,
      startMs: startMs + start,
      endMs: startMs + end,
    })),
  };
}

async function readYaml<Type>(file: string, schema: z.ZodType<Type>): Promise<Type> {
  const text = await readText(file);
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    const [why = ""] = String(cause instanceof Error ? cause.message : cause).split("\n");
    throw new Fault("INVALID_FIELD", `${file}: ${why}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined ? "" : `${issue.path.join(".")}: ${issue.message}`;
  throw new Fault("INVALID_FIELD", `${file}: ${where}`);
}

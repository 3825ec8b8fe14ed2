import { type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type AddedNodesSchema,
  type Outlook,
  type ProposedMove,
  type QueueValuesSchema,
  type WhatIfResponse,
  WhatIfResponseSchema,
  type WhatIfTask,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/what_if_pb";
import { withApi } from "../api/connect.ts";
import { resourceName } from "../api/names.ts";
import { type CliContext, type CommonOptions, printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { isForPeople, printOne, type View } from "../output/print.ts";
import { type Column, renderTable } from "../output/table.ts";
import { lastPart, shortDuration, timeMs } from "../output/values.ts";
import { readInput } from "../parse/read-input.ts";

/** Options of `scheduler what-if`. */
export interface WhatIfOptions extends CommonOptions {
  policy?: string;
  addNodes?: string[];
  removeNode?: string[];
  queue?: string[];
  horizon?: number;
  consolidate?: boolean;
}

/** `scheduler what-if` */
export async function whatIf(context: CliContext, options: WhatIfOptions): Promise<void> {
  const { policy, addNodes = [], removeNode = [], queue = [], horizon } = options;
  const { consolidate = false } = options;
  const changes = addNodes.length + removeNode.length + queue.length;
  if (policy === undefined && changes === 0 && !consolidate) {
    throw new CliError("nothing is changed", {
      hint: "--policy FILE, --add-nodes, --remove-node, --queue or --consolidate",
    });
  }
  // An empty policy is the shipped one, which is not the same as none.
  const policySource = policy === undefined ? "" : (await readInput(policy)).replace(/^\s*$/, "{}");
  await withApi(context, options, async (api) => {
    const played = await api.policies.whatIf({
      policySource,
      consolidate,
      addNodes: addNodes.map(nodesFrom),
      drainNodes: removeNode.map((typed) => resourceName("nodes", typed, "")),
      queues: queue.map(queueFrom),
      ...(horizon === undefined ? {} : { horizon: durationFromMs(horizon) }),
    });
    const print = printOptions(context, options);
    await printOne(print, view, played);
    if (!isForPeople(print)) return;
    const { terminal } = context;
    terminal.out(`\n${renderTable(outlookColumns, outlookRows(played))}`);
    if (played.moves.length > 0) {
      terminal.out(
        `\nmoves that would free whole nodes\n${renderTable(moveColumns, played.moves)}`,
      );
    }
    if (played.tasks.length > 0) {
      terminal.out(`\n${renderTable(taskColumns(context.nowMs()), played.tasks)}`);
    }
  });
}

/** `4x node-…`, or `16 x 8 NVIDIA H200`: so many nodes like one, or with so many GPUs of a model. */
export function nodesFrom(typed: string): MessageInitShape<typeof AddedNodesSchema> {
  const like = /^(\d+)\s*x\s*(?:nodes\/)?(node-\w+)$/.exec(typed.trim());
  if (like !== null) return { count: Number(like[1]), like: `nodes/${like[2]}` };
  const shape = /^(\d+)\s*x\s*(\d+)\s*x?\s+(\S.*)$/.exec(typed.trim());
  if (shape === null) {
    throw new CliError(`"${typed}" is not understood`, {
      why: "it says how many nodes, and of which kind",
      hint: '--add-nodes "4x node-…" or --add-nodes "16x 8 NVIDIA H200"',
    });
  }
  return { count: Number(shape[1]), gpus: Number(shape[2]), gpuModel: shape[3] ?? "" };
}

/** `projects/P,weight=3,limit=8`, `projects/P/users/U,limit:NVIDIA H200=2` */
export function queueFrom(typed: string): MessageInitShape<typeof QueueValuesSchema> {
  const [name = "", ...values] = typed.split(",");
  const found: Record<string, number> = {};
  const models = new Map<string, { guaranteedGpus?: number; limitGpus?: number }>();
  for (const value of values) {
    const ofModel = /^(guaranteed|limit):(.+)=(\d{1,7})$/.exec(value.trim());
    if (ofModel !== null) {
      const [, what, model = "", gpus] = ofModel;
      const field = what === "limit" ? "limitGpus" : "guaranteedGpus";
      models.set(model, { ...models.get(model), [field]: Number(gpus) });
      continue;
    }
    const match = /^(weight|guaranteed|limit)=(\d{1,7})$/.exec(value.trim());
    if (match === null) {
      throw new CliError(`"${value}" is no value of a queue`, {
        why: "they are weight, guaranteed and limit, the last two also of one model",
        hint: '--queue "projects/PROJECT,weight=3,limit=8,limit:NVIDIA H200=4"',
      });
    }
    found[match[1] ?? ""] = Number(match[2]);
  }
  const { weight, guaranteed, limit } = found;
  return {
    queue: name.endsWith("/queue") ? name : `${name}/queue`,
    ...(weight === undefined ? {} : { weight }),
    ...(guaranteed === undefined ? {} : { guaranteedGpus: guaranteed }),
    ...(limit === undefined ? {} : { limitGpus: limit }),
    ...(models.size === 0
      ? {}
      : { models: Array.from(models, ([model, share]) => ({ model, ...share })) }),
  };
}

const view: View<WhatIfResponse> = {
  columns: [],
  id: (played) => played.tasks.map(({ task }) => lastPart(task)).join("\n"),
  json: (played) => toJson(WhatIfResponseSchema, played),
  facts: (played) => [
    ["tasks with another start", String(played.tasks.length)],
    ["moves to free nodes", String(played.moves.length)],
    ["rests on", played.basis],
    [
      "note",
      played.now?.cutShort === true || played.changed?.cutShort === true
        ? "the time for an answer was up: figures are until then"
        : "",
    ],
  ],
};

interface OutlookRow {
  readonly name: string;
  readonly outlook: Outlook;
}

const outlookRows = ({ now, changed }: WhatIfResponse): OutlookRow[] => [
  ...(now === undefined ? [] : [{ name: "now", outlook: now }]),
  ...(changed === undefined ? [] : [{ name: "then", outlook: changed }]),
];

const outlookColumns: Column<OutlookRow>[] = [
  { header: "", value: ({ name }) => name },
  { header: "start", value: ({ outlook }) => String(outlook.started), align: "right" },
  { header: "still wait", value: ({ outlook }) => String(outlook.waiting), align: "right" },
  {
    header: "mean wait",
    value: ({ outlook: { meanWait } }) =>
      meanWait === undefined ? "" : shortDuration(durationMs(meanWait)),
    align: "right",
  },
  {
    header: "utilisation",
    value: ({ outlook }) => `${(outlook.utilisation * 100).toFixed(1)} %`,
    align: "right",
  },
  { header: "fairness", value: ({ outlook }) => outlook.fairness.toFixed(3), align: "right" },
  { header: "stopped", value: ({ outlook }) => String(outlook.stopped), align: "right" },
];

const moveColumns: Column<ProposedMove>[] = [
  { header: "task", value: ({ task }) => lastPart(task) },
  { header: "gpus", value: ({ gpus }) => String(gpus), align: "right" },
  { header: "from", value: ({ fromNode }) => lastPart(fromNode) },
  { header: "to", value: ({ toNode }) => lastPart(toNode) },
];

const taskColumns = (nowMs: number): Column<WhatIfTask>[] => [
  { header: "task", value: ({ task }) => lastPart(task) },
  { header: "gpus", value: ({ gpus }) => String(gpus), align: "right" },
  { header: "starts now", value: ({ startNowTime }) => startIn(startNowTime, nowMs) },
  { header: "starts then", value: ({ startThenTime }) => startIn(startThenTime, nowMs) },
];

function startIn(time: WhatIfTask["startNowTime"], nowMs: number): string {
  if (time === undefined) return "not within the horizon";
  const left = timeMs(time) - nowMs;
  return left < 1_000 ? "at once" : `in ${shortDuration(left)}`;
}

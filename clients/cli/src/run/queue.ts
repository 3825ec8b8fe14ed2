import { toJson } from "@bufbuild/protobuf";
import {
  type ModelShare,
  type Queue,
  QueueSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { type Api, withApi } from "../api/connect.ts";
import { allPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { isoTime } from "../output/values.ts";

const view: View<Queue> = {
  columns: [
    { header: "queue", value: (queue) => queue.name.replace(/\/queue$/, "") },
    { header: "weight", value: (queue) => String(queue.weight), align: "right" },
    { header: "guaranteed", value: (queue) => String(queue.guaranteedGpus), align: "right" },
    { header: "limit", value: (queue) => String(queue.limitGpus ?? "none"), align: "right" },
    { header: "models", value: modelsText },
    { header: "holds", value: (queue) => String(queue.heldGpus), align: "right" },
    { header: "changed", value: (queue) => isoTime(queue.updateTime), wide: true },
  ],
  id: (queue) => queue.name,
  json: (queue) => toJson(QueueSchema, queue),
};

/** `NVIDIA H200: 2 guaranteed, limit 4, holds 1`. */
function modelsText({ models }: Queue): string {
  return models
    .map(({ model, guaranteedGpus, limitGpus, heldGpus }) => {
      const guaranteed = guaranteedGpus > 0 ? [`${guaranteedGpus} guaranteed`] : [];
      const limit = limitGpus === undefined ? [] : [`limit ${limitGpus}`];
      return `${model}: ${[...guaranteed, ...limit, `holds ${heldGpus}`].join(", ")}`;
    })
    .join("; ");
}

/** `queue list` */
export async function listQueues(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.organization();
    const items = await allPages(
      (page) => api.queues.listQueues({ parent, ...page }),
      ({ queues }) => queues,
    );
    await printList(
      printOptions(context, options),
      view,
      items,
      "every project has weight 1, no guarantee and no limit; fastgpu queue set changes that",
    );
  });
}

/** `queue get [QUEUE]` */
export async function getQueue(
  context: CliContext,
  options: CommonOptions,
  typed: string | undefined,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const queue = await api.queues.getQueue({ name: await queueName(api, typed) });
    await printOne(printOptions(context, options), view, queue);
  });
}

/** Options of `queue set`. */
export interface SetQueueOptions extends CommonOptions {
  user?: string;
  weight?: number;
  guaranteed?: number;
  limit?: number | "none";
  modelLimit?: Record<string, number | "none">;
  modelGuaranteed?: Record<string, number>;
}

/** `queue set [QUEUE] --weight N --guaranteed N --limit N --model-limit MODEL=N` */
export async function setQueue(
  context: CliContext,
  options: SetQueueOptions,
  typed: string | undefined,
): Promise<void> {
  const { weight, guaranteed, limit, modelLimit, modelGuaranteed } = options;
  const ofModels = modelLimit !== undefined || modelGuaranteed !== undefined;
  const paths = [
    ...(weight === undefined ? [] : ["weight"]),
    ...(guaranteed === undefined ? [] : ["guaranteed_gpus"]),
    ...(limit === undefined ? [] : ["limit_gpus"]),
    ...(ofModels ? ["models"] : []),
  ];
  if (paths.length === 0) {
    throw new CliError("there is nothing to change", {
      hint: '--weight N, --guaranteed GPUS, --limit GPUS or --limit none, --model-limit "NVIDIA H200=4"',
    });
  }
  await withApi(context, options, async (api) => {
    const name = await queueName(api, typed, options.user);
    const before = ofModels ? (await api.queues.getQueue({ name })).models : [];
    const queue = await api.queues.updateQueue({
      queue: {
        name,
        weight: weight ?? 0,
        guaranteedGpus: guaranteed ?? 0,
        ...(typeof limit === "number" ? { limitGpus: limit } : {}),
        models: changedModels(before, options),
      },
      updateMask: { paths },
    });
    await printOne(printOptions(context, options), view, queue);
  });
}

/** The models of a queue with the named ones changed; one without guarantee and limit is left out. */
function changedModels(
  before: readonly Pick<ModelShare, "model" | "guaranteedGpus" | "limitGpus">[],
  { modelLimit = {}, modelGuaranteed = {} }: SetQueueOptions,
) {
  const known = new Map(before.map((share) => [share.model, share]));
  const named = [...known.keys(), ...Object.keys(modelLimit), ...Object.keys(modelGuaranteed)];
  return [...new Set(named)].flatMap((model) => {
    const limit = modelLimit[model] ?? known.get(model)?.limitGpus ?? "none";
    const guaranteedGpus = modelGuaranteed[model] ?? known.get(model)?.guaranteedGpus ?? 0;
    if (limit === "none" && guaranteedGpus === 0) return [];
    return [{ model, guaranteedGpus, ...(limit === "none" ? {} : { limitGpus: limit }) }];
  });
}

async function queueName(api: Api, typed: string | undefined, user?: string): Promise<string> {
  const owner = typed === undefined ? await api.project() : ownerNamed(typed);
  if (owner.endsWith("/queue")) return owner;
  return user === undefined ? `${owner}/queue` : `${owner}/users/${user}/queue`;
}

/** The owner that was typed: a full name as it is, a bare id with its collection before it. */
function ownerNamed(typed: string): string {
  const name = /^(organizations|projects)\/[^/]+(\/users\/[^/]+)?(\/queue)?$/.test(typed);
  if (name) return typed;
  if (parseId("org", typed) !== undefined) return `organizations/${typed}`;
  if (parseId("proj", typed) !== undefined) return `projects/${typed}`;
  throw new CliError(`"${typed}" names no queue`, {
    why: "a queue is that of an organisation, a project or its user: org-…, proj-… or projects/PROJECT/users/USER",
    hint: "fastgpu queue list, fastgpu project list",
  });
}

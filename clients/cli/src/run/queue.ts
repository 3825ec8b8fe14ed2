import { toJson } from "@bufbuild/protobuf";
import { type Queue, QueueSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { type Api, withApi } from "../api/connect.ts";
import { collectPages } from "../api/pages.ts";
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
    { header: "holds", value: (queue) => String(queue.heldGpus), align: "right" },
    { header: "changed", value: (queue) => isoTime(queue.updateTime), wide: true },
  ],
  id: (queue) => queue.name,
  json: (queue) => toJson(QueueSchema, queue),
};

/** `queue list` */
export async function listQueues(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.organization();
    const { items } = await collectPages(0, async (pageSize, pageToken) => {
      const page = await api.queues.listQueues({ parent, pageSize, pageToken });
      return { items: page.queues, nextPageToken: page.nextPageToken };
    });
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

/** `queue set [QUEUE] --weight N --guaranteed N --limit N` */
export async function setQueue(
  context: CliContext,
  options: CommonOptions & { weight?: number; guaranteed?: number; limit?: number | "none" },
  typed: string | undefined,
): Promise<void> {
  const { weight, guaranteed, limit } = options;
  const paths = [
    ...(weight === undefined ? [] : ["weight"]),
    ...(guaranteed === undefined ? [] : ["guaranteed_gpus"]),
    ...(limit === undefined ? [] : ["limit_gpus"]),
  ];
  if (paths.length === 0) {
    throw new CliError("there is nothing to change", {
      hint: "--weight N, --guaranteed GPUS, --limit GPUS or --limit none",
    });
  }
  await withApi(context, options, async (api) => {
    const queue = await api.queues.updateQueue({
      queue: {
        name: await queueName(api, typed),
        weight: weight ?? 0,
        guaranteedGpus: guaranteed ?? 0,
        ...(typeof limit === "number" ? { limitGpus: limit } : {}),
      },
      updateMask: { paths },
    });
    await printOne(printOptions(context, options), view, queue);
  });
}

async function queueName(api: Api, typed: string | undefined): Promise<string> {
  const owner = typed ?? (await api.project());
  return owner.endsWith("/queue") ? owner : `${owner}/queue`;
}

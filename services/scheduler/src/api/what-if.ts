import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  AddedNodes,
  OutlookSchema,
  QueueValues,
  WhatIfRequest,
  WhatIfResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/what_if_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Outlook } from "@fastgpu/scheduling/explain/outlook";
import type { ExplainDesk } from "../explain/desk.ts";
import type { ChangedQueue, NewNodes } from "../explain/what-if.ts";
import { readPolicy } from "../policy/read-policy.ts";
import type { Scheduler } from "../scheduler.ts";

const dayMs = 24 * 3_600_000;
/** Tasks that an answer names at most. */
const maxTasks = 1_000;

/** Plays the line's future as things are, and with a change. Changes nothing. */
export async function whatIf(
  s: Scheduler,
  desk: ExplainDesk,
  of: { request: WhatIfRequest; context: CallContext },
): Promise<MessageInitShape<typeof WhatIfResponseSchema>> {
  const { request, context } = of;
  const { policySource, horizon } = request;
  const change = {
    policy: policySource.trim() === "" ? undefined : readPolicy(policySource, "policy_source"),
    added: request.addNodes.map(newNodes),
    drained: request.drainNodes.map((name) => name.slice("nodes/".length)),
    queues: request.queues.map(changedQueue),
    consolidate: request.consolidate,
  };
  const nowMs = s.clock.nowMs();
  const untilMs = nowMs + (horizon === undefined ? dayMs : durationMs(horizon));
  const { signal, deadlineMs } = context;
  const asker = { org: context.principal.id, signal, deadlineMs };
  const played = await desk.ask({ kind: "whatIf", change, nowMs, untilMs }, asker);
  if (played.kind === "unknown") {
    throw Fault.notFound(played.resource, "`fastgpu node list` shows the nodes");
  }
  const { now, changed, tasks, moves } = played;
  const rows = tasks
    .map((task) => ({
      ...task,
      before: now.starts.get(task.id),
      after: changed.starts.get(task.id),
    }))
    .filter(({ before, after }) => before !== after)
    .map((row) => ({
      ...row,
      differsMs: Math.abs((row.before ?? untilMs) - (row.after ?? untilMs)),
    }))
    .toSorted((a, b) => b.differsMs - a.differsMs)
    .slice(0, maxTasks);
  return {
    tasks: rows.map(({ id, project, gpus, before, after }) => ({
      task: `projects/${project}/tasks/${id}`,
      gpus,
      ...(before === undefined ? {} : { startNowTime: timestampFromMs(before) }),
      ...(after === undefined ? {} : { startThenTime: timestampFromMs(after) }),
    })),
    moves: moves.map(({ task, project, from, to, gpus }) => ({
      task: `projects/${project}/tasks/${task}`,
      fromNode: `nodes/${from}`,
      toNode: `nodes/${to}`,
      gpus,
    })),
    now: outlookToWire(now),
    changed: outlookToWire(changed),
    basis:
      "attempts last as long as runs like them did, or as long as they may where there is no history; nothing new is " +
      "submitted, and nothing fails",
  };
}

function newNodes(group: AddedNodes): NewNodes {
  const { count, like, gpuModel, gpus } = group;
  const shares = BigInt(Math.max(1, gpus));
  return {
    ...{ count, gpuModel, gpus },
    like: like === "" ? undefined : like.replace(/^nodes\//, ""),
    gpuMemoryMib: Number(group.gpuMemoryMib || 81_920n),
    cpuMillis: Number(group.cpuMillis || 16_000n * shares),
    memoryMib: Number(group.memoryMib || 131_072n * shares),
  };
}

function changedQueue(of: QueueValues): ChangedQueue {
  const { queue, weight, guaranteedGpus, limitGpus } = of;
  const [collection, id = "", users, name] = queue.split("/");
  const org = collection === "organizations" ? parseId("org", id) : undefined;
  const project = collection === "projects" ? parseId("proj", id) : undefined;
  if (org === undefined && project === undefined) throw Fault.notFound(queue);
  const user = users === "users" ? name : undefined;
  const models = of.models.map((each) => ({
    model: each.model,
    guaranteedGpus: each.guaranteedGpus,
    limitGpus: each.limitGpus,
  }));
  return { org, project, user, weight, guaranteedGpus, limitGpus, models };
}

function outlookToWire(outlook: Outlook): MessageInitShape<typeof OutlookSchema> {
  const { starts, waiting, meanWaitMs, utilisation, fairness, stopped, cutShort } = outlook;
  return {
    started: starts.size,
    waiting,
    meanWait: durationFromMs(Math.round(meanWaitMs)),
    ...{ utilisation, fairness, stopped, cutShort },
  };
}

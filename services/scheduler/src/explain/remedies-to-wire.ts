import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { RemedySchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { formatNanos } from "@fastgpu/domain/money";
import type { Explanation } from "@fastgpu/scheduling/explain/explain";
import { timeOf } from "@fastgpu/scheduling/explain/future";
import type { Remedy } from "@fastgpu/scheduling/explain/remedies";
import { describeChange, fieldChanges, gpuText, spanInWords } from "./explain-in-words.ts";
import { queueResource, type MaxCostTooSmall, type Shortfall } from "./explanation-to-wire.ts";

type RemedyOnWire = MessageInitShape<typeof RemedySchema>;

/** Whose remedies they are. */
interface Subject {
  readonly org: OrgId;
  readonly project: ProjectId;
  /** Undefined where it is not submitted yet. */
  readonly task: TaskId | undefined;
  readonly nowMs: number;
}

/** What is missing of money. */
interface Money {
  readonly shortfall: Shortfall | undefined;
  readonly tooSmall: MaxCostTooSmall | undefined;
}

/** The remedies on the wire; where money is missing, more of it is the one that counts. */
export function remediesToWire(
  { remedies, forecast }: Explanation,
  of: Subject,
  { shortfall, tooSmall }: Money,
): RemedyOnWire[] {
  if (shortfall === undefined && tooSmall === undefined) {
    return remedies.map((remedy) => toWire(remedy, of));
  }
  const startsByMs = timeOf(forecast);
  // Whatever else stands in its way does so with money too.
  const others = startsByMs === of.nowMs ? [] : remedies.filter(({ kind }) => kind !== "wait");
  return [
    ...(tooSmall === undefined
      ? []
      : [{ ...maxCostToWire(tooSmall, of), ...startsBy(startsByMs) }]),
    ...(shortfall === undefined
      ? []
      : [{ ...creditToWire(shortfall, of), ...startsBy(startsByMs) }]),
    ...others.map((remedy) => toWire(remedy, of)),
  ];
}

/** The least max_cost with which it gets its first lease; it ends when that is used up. */
function maxCostToWire({ currency, neededNanos }: MaxCostTooSmall, of: Subject): RemedyOnWire {
  const changes = [{ fieldPath: "spec.max_cost.nanos", valueJson: String(neededNanos) }];
  return {
    description: `raise max_cost to ${formatNanos(neededNanos)} ${currency} or more`,
    changes,
    command: changeCommand(changes, of),
  };
}

const startsBy = (ms: number | undefined) =>
  ms === undefined ? {} : { startsByTime: timestampFromMs(ms) };

function creditToWire(of: Shortfall, { org }: Subject): RemedyOnWire {
  const { currency } = of;
  const nanos = of.neededNanos - of.availableNanos;
  const missing = formatNanos(nanos);
  return {
    description: `add at least ${missing} ${currency} of credit to the organisation's account`,
    credit: { currency, nanos },
    command: `fastgpu billing credit ${missing} --org ${org}`,
  };
}

/** When it starts with a change that shortens a long wait. */
function shorterWait({ start }: Remedy, { nowMs }: Subject): { text: string; on: RemedyOnWire } {
  if (start === undefined) return { text: "", on: {} };
  const expectedMs = start.expected && timeOf(start.expected);
  const atMs = expectedMs ?? timeOf(start.latest) ?? nowMs;
  const span = spanInWords(atMs - nowMs);
  const text =
    expectedMs === undefined
      ? `: it then starts within about ${span}`
      : `: it is then expected to start in about ${span}`;
  const rough = start.latest.kind === "about" || start.expected?.kind === "about";
  const expected =
    expectedMs === undefined ? {} : { expectedStartTime: timestampFromMs(expectedMs) };
  return { text, on: { rough, ...expected } };
}

function toWire(remedy: Remedy, of: Subject): RemedyOnWire {
  const { text, on } = shorterWait(remedy, of);
  const start = { ...startsBy(remedy.startsByMs), ...on };
  switch (remedy.kind) {
    case "change": {
      const changes = fieldChanges(remedy.fields, remedy.task);
      return {
        description: describeChange(remedy.fields, remedy.task) + text,
        changes,
        command: changeCommand(changes, of),
        ...start,
      };
    }
    case "limit": {
      const limits = remedy.quotas.map(({ queue, model, neededGpus }) => ({
        queue: queueResource(queue),
        model: model ?? "",
        limitGpus: neededGpus,
      }));
      return {
        description: limits.map(limitText).join(" and "),
        limits,
        command: limits.map(limitCommand).join(" && "),
        ...start,
      };
    }
    case "project": {
      const project = `projects/${remedy.project}`;
      return {
        description: `submit it in ${project}${text}`,
        project,
        ...moveCommand(project, of),
        ...start,
      };
    }
    case "end": {
      const { task, project, gpus } = remedy.holder;
      return {
        description: `end the project's own ${task}, which holds ${gpuText(gpus)}`,
        cancelTask: `projects/${project}/tasks/${task}`,
        command: `fastgpu task cancel projects/${project}/tasks/${task}`,
        ...start,
      };
    }
    case "wait": {
      if (remedy.forecast.kind === "about") {
        return { description: "wait, by a rough reckoning", ...start };
      }
      const { freedOn } = remedy.forecast;
      const where = freedOn === undefined ? "" : ` for work on nodes/${freedOn} to end`;
      return { description: `wait${where}`, ...start };
    }
  }
}

function moveCommand(to: string, { project, task }: Subject): { command?: string } {
  if (task === undefined) return {};
  return { command: `${rerun(project, task)} --to-project ${to}` };
}

/** By its full name: what is typed may act in another project. */
const rerun = (project: ProjectId, task: TaskId): string =>
  `fastgpu task rerun projects/${project}/tasks/${task}`;

interface Limit {
  readonly queue: string;
  /** Empty: of any model. */
  readonly model: string;
  readonly limitGpus: number;
}

function limitText({ queue, model, limitGpus }: Limit): string {
  const of = model === "" ? "" : ` of the model ${model}`;
  return `raise the limit of ${queue} to ${gpuText(limitGpus)}${of}`;
}

function limitCommand({ queue, model, limitGpus }: Limit): string {
  const [, owner = "", user] = /^(.*?)(?:\/users\/([^/]+))?\/queue$/.exec(queue) ?? [];
  const by = user === undefined ? "" : ` --user ${user}`;
  const limit = model === "" ? `--limit ${limitGpus}` : `--model-limit '${model}=${limitGpus}'`;
  return `fastgpu queue set ${owner}${by} ${limit}`;
}

/** Submits the task again with other fields; before it is submitted who asked knows how to. */
function changeCommand(
  changes: readonly { readonly fieldPath: string; readonly valueJson: string }[],
  { project, task }: Subject,
): string {
  if (task === undefined) return "";
  const sets = changes.map(({ fieldPath, valueJson }) => ` --set ${quoted(fieldPath, valueJson)}`);
  return `${rerun(project, task)}${sets.join("")}`;
}

/** One word for a shell. */
function quoted(path: string, json: string): string {
  const word = `${path}=${json}`;
  return /^[\w.=:-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** CPU time of explanations of tasks along a long line on a full fleet, and what each says of the start. */
import { explainTask } from "@fastgpu/scheduling/explain/explain";
import { longest, timeOf, type Forecast, type Lengths } from "@fastgpu/scheduling/explain/future";
import type { Remedy } from "@fastgpu/scheduling/explain/remedies";
import { createQueueOrder } from "@fastgpu/scheduling/queue-order";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { cpuMs } from "./figures.ts";
import { countOf, flagsOf, listOf, numberOf, tellRows } from "./flags.ts";
import { PlanScene, startMs } from "./plan-state.ts";

const usage = `usage: npm run bench -- explain [flags]

  --gpus N             GPUs, on nodes of 8 (default 8000)
  --preemptible P[,P]  parts of the running work that can be stopped (default 0.5,0)
  --endless P          part of the running work without an end (default 0)
  --tasks N            tasks that wait (default 10000)
  --queues N           projects that they wait in (default 120)
  --asked N            tasks explained, evenly along the line (default 8)
  --budget-ms N        CPU time that an answer has (default 5000)
  --seed N             (default 42)
  --json OUT           one JSON object a line

Hours from now to the latest and to the expected start (expected: half of the longest run times), whether each is rough,
remedies found, the change that shortens a long wait most with its expected start, and CPU milliseconds of this thread.
`;

/** The bench. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: {
      ...{ gpus: "8000", preemptible: "0.5,0", endless: "0", tasks: "10000", queues: "120" },
      ...{ asked: "8", "budget-ms": "5000", seed: "42" },
    },
  });
  if (values === undefined) return 0;
  const of = {
    ...{ gpus: countOf("gpus", values.gpus), tasks: countOf("tasks", values.tasks), free: 0 },
    ...{ queues: countOf("queues", values.queues), seed: countOf("seed", values.seed, 0) },
    ...{ endless: numberOf("endless", values.endless, { most: 1 }) },
    ...{
      asked: countOf("asked", values.asked),
      budgetMs: countOf("budget-ms", values["budget-ms"]),
    },
  };
  const parts = listOf(values.preemptible, (text) => numberOf("preemptible", text, { most: 1 }));
  const rows = parts.flatMap((preemptible) => measure({ ...of, preemptible }));
  await tellRows(rows, values.json);
  return 0;
}

const rng = (): number => 0.5;

function measure(
  of: ConstructorParameters<typeof PlanScene>[0] & { asked: number; budgetMs: number },
) {
  const state = new PlanScene(of).state();
  const policy = defaultSchedulingPolicy;
  const line: (typeof state.tasks)[number][] = [];
  createQueueOrder(state, policy).walk(startMs, (task) => {
    line.push(task);
    return true;
  });
  return Array.from({ length: of.asked }, (_, at) => {
    const task = line[Math.floor(((at + 0.5) * line.length) / of.asked)]!;
    const fromMs = cpuMs();
    const spent = (): number => (cpuMs() - fromMs) / of.budgetMs;
    const goOn = (part: number): boolean => spent() < part;
    const told = explainTask({
      ...{ state, task, nowMs: startMs, longest, expected: half },
      ...{ policy, rng, goOn, spent },
    });
    return {
      ...{ preemptible: of.preemptible, position: told.queuePosition },
      ...{ gpus: task.demand.gpuCount, replicas: task.replicas },
      latest: inHours(told.forecast),
      expected: told.expected && inHours(told.expected),
      remedies: told.remedies.length,
      shorter: shorterOf(told.remedies),
      ms: Math.round(cpuMs() - fromMs),
    };
  });
}

/** The change that leaves least of a long wait, with its expected start. */
function shorterOf(remedies: readonly Remedy[]): string {
  const best = remedies.find(({ start }) => start !== undefined);
  if (best === undefined) return "";
  const what = best.kind === "change" ? best.fields.join("+") : best.kind;
  return `${what}: ${inHours(best.start!.expected ?? best.start!.latest)}`;
}

/** Everything takes half as long as it may. */
const half: Lengths = {
  endMs: (lease) => Math.max(startMs + 1, (lease.heldSinceMs + lease.endsByMs) / 2),
  runMs: (task) => task.maxRuntimeMs / 2,
  stopMs: longest.stopMs,
};

function inHours(forecast: Forecast): string {
  const atMs = timeOf(forecast);
  if (atMs === undefined) return forecast.kind;
  const hours = ((atMs - startMs) / 3_600_000).toFixed(1);
  return forecast.kind === "about" ? `about ${hours}` : hours;
}

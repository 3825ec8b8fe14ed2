/** The longest pause of the service's own thread, and CPU time, while several explanations of a long line run at once. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { newId, uuidToId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { createExplainDesk } from "@fastgpu/scheduler/explain/desk";
import { planTaskOf } from "@fastgpu/scheduler/explain/look";
import { openSession, storeGpus } from "@fastgpu/scheduler/store/nodes";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { createLogger } from "@fastgpu/telemetry/log";
import { flagsOf, tellRows } from "./flags.ts";
import { enqueue } from "./memory-stored.ts";
import { startServiceDatabase } from "./service-database.ts";

const usage = `usage: npm run bench -- explain-desk [flags]

  --tasks N     tasks that wait (default 100000)
  --nodes N     nodes of 8 GPUs (default 250)
  --queues N    projects that they wait in (default 120)
  --at-once N   explanations asked for at the same moment (default 5)
  --json OUT    one JSON object a line

A scheduler's database of its own, the service's desk and its thread. Milliseconds: the longest pause of the thread that
asks (it has nothing else to do) without a question for 15 seconds and with them, CPU time of the whole process for each answer, and seconds until the last one.
`;

/** The bench. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: { tasks: "100000", nodes: "250", queues: "120", "at-once": "5" },
  });
  if (values === undefined) return 0;
  const log = createLogger({ service: "bench", level: "error" });
  await using database = await startServiceDatabase("scheduler");
  await using db = openDatabase({ service: "scheduler", urls: database.urls, log });
  for (let at = 0; at < Number(values.nodes); at++) await addNode(db.core);
  await enqueue(
    db.core,
    {
      tasks: Number(values.tasks),
      shapes: 1_500,
      queues: Number(values.queues),
      seed: 42,
      progress: () => {},
    },
    () => Promise.resolve(),
  );
  await using desk = createExplainDesk({ coreUrl: database.urls.core, log });
  const asked = await db.core.query(someTasks, [Number(values["at-once"])]);
  const row = await measure(desk, asked);
  await tellRows(
    [{ tasks: Number(values.tasks), gpus: 8 * Number(values.nodes), ...row }],
    values.json,
  );
  return 0;
}

const someTasks = statement<{ id: string; org_id: string; project_id: string }>(
  "bench_some_tasks",
  "select id, org_id, project_id from tasks order by abs(hashtext(id::text)) limit $1",
);

async function measure(
  desk: ReturnType<typeof createExplainDesk>,
  asked: readonly { id: string; org_id: string; project_id: string }[],
) {
  const nowMs = Date.now();
  const idle = monitorEventLoopDelay({ resolution: 1 });
  idle.enable();
  await setTimeout(idleMs);
  idle.disable();
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  const before = process.cpuUsage();
  const fromMs = performance.now();
  pauses.enable();
  const answers = await Promise.all(
    asked.map(({ id, org_id, project_id }, at) => {
      const org = uuidToId("org", org_id) as OrgId;
      const project = uuidToId("proj", project_id) as ProjectId;
      const task = planTaskOf({
        ...{ id: uuidToId("task", id) as TaskId, org, project, user: "", preemptible: false },
        ...{ demand, priority: 0, submittedMs: nowMs, stopGraceMs: 0 },
      });
      const by = {
        // Of one organisation four may be open.
        org: `${org} ${at}`,
        signal: new AbortController().signal,
        deadlineMs: undefined,
      };
      return desk.ask({ kind: "explain", task, projects: [], nowMs }, by);
    }),
  );
  pauses.disable();
  const { user, system } = process.cpuUsage(before);
  return {
    answers: answers.length,
    idlePauseMs: Math.round(idle.max / 1e6),
    longestPauseMs: Math.round(pauses.max / 1e6),
    cpuMsAnAnswer: Math.round((user + system) / 1_000 / answers.length),
    seconds: Math.round((performance.now() - fromMs) / 100) / 10,
  };
}

/** For so long pauses are looked at without any question. */
const idleMs = 15_000;

/** Of a task that is not in line; those that are asked about are. */
const demand: PlanTask["demand"] = {
  ...{ runtime: "container", gpuCount: 1, gpuModels: [], gpuMinMemoryMib: 0, simulatedOk: true },
  ...{ cpuMillis: 1_000, memoryMib: 1_024, diskMib: 0 },
};

async function addNode(core: Pool): Promise<void> {
  const nowMs = Date.now();
  const idOf = <Kind extends "node" | "gpu">(kind: Kind) =>
    newId(kind, nowMs, crypto.getRandomValues(new Uint8Array(10)));
  const id = idOf("node");
  const gpus = Array.from({ length: 8 }, (_, index) => ({
    ...{ newId: idOf("gpu"), index, uuid: `${id}-${index}`, model: "NVIDIA A100" },
    ...{ memoryMib: 81_920, simulated: true },
  }));
  await transaction(core, async (tx) => {
    await openSession(tx, {
      ...{ id, displayName: id, workerVersion: "0", bootId: "", replica: "" },
      ...{ cpuMillis: 128_000, memoryMib: 1_048_576, diskMib: 0, topology: {} },
      ...{ runtimes: ["container"], leaseUntilMs: nowMs + 86_400_000, nowMs },
    });
    await storeGpus(tx, id, gpus);
  });
}

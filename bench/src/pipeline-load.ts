/** What the pipeline experiment asks of the platform, and what it counts. */
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { TaskSchema, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import type { Client } from "@fastgpu/rpc/client";

/** Kinds of work: nothing or a real `true`, with or without one simulated GPU an attempt. */
export interface Work {
  readonly gpus: number;
  readonly cpuMillis: number;
}

/** A task of `true`; an array of it where `elements` says so. */
export function taskOf(work: Work, array?: { elements: number; parallelism: number }): Task {
  const spec: MessageInitShape<typeof TaskSchema>["spec"] = {
    runtime: { case: "process", value: { command: ["true"] } },
    resources: {
      cpuMillis: BigInt(work.cpuMillis),
      memoryMib: 1n,
      ...(work.gpus === 0 ? {} : { gpu: { count: work.gpus } }),
    },
    ...(array === undefined
      ? {}
      : { array: { count: array.elements, parallelism: array.parallelism } }),
  };
  return create(TaskSchema, { spec });
}

/** Calls `each` for 0 … count − 1 with so many under way at once. */
export async function inFlight(
  count: number,
  width: number,
  each: (n: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const n = next;
      next += 1;
      await each(n);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
}

const live = statement<{ one: number }>(
  "bench_live",
  `select 1 as one from scheduler.tasks
   where state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED') limit 1`,
);

/** Resolves when no task is under way; looked at every 20 ms, from the database: durable or not seen. */
export async function drained(reader: Pool, timeoutMs = 300_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  while ((await reader.query(live)).length > 0) {
    if (performance.now() > until) throw new Error("tasks are still under way after the limit");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Submits arrays of 100,000 elements at most and waits for their end; answers the elements a second. */
export async function runArrays(
  client: Client<typeof TaskService>,
  of: { parent: string; reader: Pool; work: Work; elements: number; parallelism: number },
): Promise<number> {
  const begun = performance.now();
  const most = 100_000;
  for (let left = of.elements; left > 0; left -= most) {
    const array = { elements: Math.min(left, most), parallelism: of.parallelism };
    const task = taskOf(of.work, array);
    await client.runTask({ parent: of.parent, requestId: randomUUID(), task });
  }
  await drained(of.reader);
  return of.elements / ((performance.now() - begun) / 1000);
}

/** Submits each task in a call of its own and waits for the end of all; answers the tasks a second. */
export async function runSingles(
  client: Client<typeof TaskService>,
  of: { parent: string; reader: Pool; work: Work; tasks: number; width: number },
): Promise<number> {
  const task = taskOf(of.work);
  const begun = performance.now();
  await inFlight(of.tasks, of.width, () =>
    client.runTask({ parent: of.parent, requestId: randomUUID(), task }),
  );
  await drained(of.reader);
  return of.tasks / ((performance.now() - begun) / 1000);
}

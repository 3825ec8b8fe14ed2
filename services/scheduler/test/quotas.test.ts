import { idToUuid } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { anId } from "@fastgpu/testkit/factories";
import { expect, test } from "vitest";
import { quotasLeft, spend } from "../src/cycle/quotas.ts";
import { countHeldGpus, lockQueue, storeQueue } from "../src/store/queues.ts";
import { openCore } from "./core.ts";

const demand = {
  runtime: "process",
  gpuCount: 1,
  gpuModels: [],
  gpuMinMemoryMib: 0,
  simulatedOk: true,
  cpuMillis: 0,
  memoryMib: 0,
  diskMib: 0,
} as const;

/** One held GPU, with no more of a task behind it than the tables ask for. */
const hold = statement(
  "test_hold",
  `with n as (insert into nodes (id, display_name, worker_version, boot_id, state, replica, cpu_millis, memory_mib,
       disk_mib, runtimes, lease_until_ms, last_seen_ms)
     values (gen_random_uuid(), 'n', '0', '', 'READY', '', 0, 0, 0, '{}', 0, 0) returning id),
   g as (insert into gpus (id, node_id, index, uuid, model, memory_mib, simulated, state)
     select gen_random_uuid(), id, 0, 'u', 'm', 1, true, 'IDLE' from n returning id, node_id),
   t as (insert into tasks (id, org_id, project_id, display_name, labels, spec, runtime, priority, gpu_count,
       gpu_models, gpu_min_memory_mib, simulated_ok, cpu_millis, memory_mib, disk_mib, max_retries, retry_on,
       max_runtime_ms, stop_grace_ms, state, traceparent, created_ms)
     values (gen_random_uuid(), $1, $2, '', '{}', '', 'process', 0, 1, '{}', 0, true, 0, 0, 0, 0, '{}', 0, 0,
       'QUEUED', '', 0) returning id),
   a as (insert into attempts (id, org_id, project_id, task_id, node_id, epoch, leader_epoch, number, state,
       cpu_millis, memory_mib, disk_mib, lease_ms, stop_grace_ms, traceparent)
     select gen_random_uuid(), $1, $2, t.id, g.node_id, 1, 1, 1, 'LEASED', 0, 0, 0, 0, 0, '' from t, g
     returning id, task_id)
   insert into allocations (attempt_id, gpu_id, org_id, project_id, task_id, sku, price_version, simulated, from_ms,
     cut_ms)
   select a.id, g.id, $1, $2, a.task_id, 'sku', 1, true, 0, 0 from a, g`,
);

test("64 racing commits never pass the limit of an organisation, whatever its projects (I7)", async () => {
  await using db = await openCore();
  const org = anId("org");
  const projects = [anId("proj"), anId("proj"), anId("proj")] as const;
  const limited = {
    ...{ org, project: undefined, user: undefined },
    ...{ weight: 1, guaranteedGpus: 0, limitGpus: 10, models: {} },
  };
  await transaction(db.core, async (tx) => {
    await lockQueue(tx, limited, 0);
    await storeQueue(tx, limited, 0);
  });
  const outcomes = await Promise.all(
    Array.from({ length: 64 }, (_, at) =>
      transaction(db.core, async (tx) => {
        const task = { org, project: projects[at % 3]!, user: "key-1", demand };
        const quotas = await quotasLeft(tx, [task]);
        if (!spend(quotas, task, ["m"])) return false;
        await tx.query(hold, [idToUuid(org), idToUuid(task.project)]);
        return true;
      }),
    ),
  );
  expect(outcomes.filter(Boolean)).toHaveLength(10);
  expect(await countHeldGpus(db.core, [limited])).toEqual([{ total: 10, models: { m: 10 } }]);
});

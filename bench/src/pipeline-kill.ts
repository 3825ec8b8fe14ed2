/** kill -9 of everything under load: what was acknowledged is there once after the restart, no more and no less. */
import { randomUUID } from "node:crypto";
import { audit, describeFailures, openAuditor } from "@fastgpu/auditor/audit";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { idToUuid, parseId } from "@fastgpu/domain/ids";
import { quietLog, type Fixture } from "./pipeline-fixture.ts";
import { drained, inFlight, taskOf } from "./pipeline-load.ts";

/** What was found. */
export interface KillVerdict {
  readonly ok: boolean;
  readonly text: string;
  readonly acknowledged: number;
  readonly lost: number;
  readonly doubled: number;
  readonly wrongElements: number;
  readonly unacknowledged: number;
  readonly auditFailures: string;
  readonly restartSeconds: number;
}

const facts = statement<{ lost: bigint; doubled: bigint; wrong: bigint; unknown: bigint }>(
  "bench_kill_facts",
  `with mine as (select unnest($1::uuid[]) as id),
   ended as (select a.task_id, count(*) filter (where a.exit_class = 'ok') as good
             from scheduler.attempts a join mine on mine.id = a.task_id group by a.task_id)
   select
     (select count(*) from mine left join scheduler.tasks t using (id)
      where t.state is distinct from 'SUCCEEDED') as lost,
     (select count(*) from ended join scheduler.tasks t on t.id = ended.task_id
      where t.array_count is null and good <> 1) as doubled,
     (select count(*) from scheduler.tasks t where array_count is not null
      and t.idx_succeeded <> int4multirange(int4range(0, array_count))) as wrong,
     (select count(*) from scheduler.tasks t where created_ms >= $2 and not exists
       (select from mine where mine.id = t.id)) as unknown`,
);

async function submitUntilKilled(
  p: Fixture,
  of: { elements: number; singles: number; width: number },
): Promise<string[]> {
  const names: string[] = [];
  const work = { gpus: 1, cpuMillis: 100 };
  const submit = async (task: ReturnType<typeof taskOf>): Promise<void> => {
    const accepted = await p.direct.runTask(
      { parent: p.parent, requestId: randomUUID(), task },
      { timeoutMs: 2_000, retry: false },
    );
    names.push(accepted.name);
  };
  const elements = Math.min(of.elements, 100_000);
  await submit(taskOf(work, { elements, parallelism: 4 }));
  let killed: Promise<void> | undefined;
  await inFlight(of.singles, of.width, async (n) => {
    if (n === Math.floor(of.singles / 2)) killed = p.kill();
    // What was under way when it died may or may not have been stored: the client was told of neither.
    await submit(taskOf(work)).catch(() => undefined);
  });
  await killed;
  return names;
}

/** Kills the platform, the database and the broker half-way through a load, starts them again and looks. */
export async function checkAcrossKill(
  p: Fixture,
  of: { elements: number; singles: number; width: number },
): Promise<KillVerdict> {
  const sinceMs = Date.now() - 1_000;
  const names = await submitUntilKilled(p, of);
  const restartSeconds = await p.restart();
  await drained(p.reader);
  const ids = names.flatMap((name) => parseId("task", name.split("/").at(-1) ?? "") ?? []);
  const [found] = await p.reader.query(facts, [ids.map(idToUuid), sinceMs]);
  const auditFailures = await settledAudit(p.started.auditorUrl, p.reader);
  const verdict = {
    acknowledged: ids.length,
    lost: Number(found?.lost ?? -1n),
    doubled: Number(found?.doubled ?? -1n),
    wrongElements: Number(found?.wrong ?? -1n),
    unacknowledged: Number(found?.unknown ?? 0n),
    auditFailures,
    restartSeconds,
  };
  const { acknowledged, lost, doubled, wrongElements, unacknowledged } = verdict;
  const ok = lost === 0 && doubled === 0 && wrongElements === 0 && auditFailures === "";
  const text =
    `kill -9    ${acknowledged} acknowledged tasks and arrays: ${lost} lost, ${doubled} doubled, ` +
    `${wrongElements} arrays with wrong elements; ${unacknowledged} stored without an answer; ` +
    `again ready after ${restartSeconds.toFixed(1)} s\n` +
    `auditor    ${auditFailures === "" ? "no violation" : auditFailures}\n`;
  return { ok, text, ...verdict };
}

const openHolds = statement<{ n: bigint }>(
  "bench_open_holds",
  "select count(*) as n from billing.holds where state = 'open'",
);

/** The auditor's findings once billing has caught up; "" where there are none. */
async function settledAudit(url: string, reader: Pool): Promise<string> {
  await using auditor = openAuditor({ url, log: quietLog });
  for (let tries = 0; ; tries += 1) {
    const report = await audit(auditor);
    const [open] = await reader.query(openHolds).catch(() => [{ n: 0n }]);
    if ((report.ok && open?.n === 0n) || tries > 60) return describeFailures(report);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

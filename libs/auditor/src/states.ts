import { attemptTransitions, taskTransitions, terminalTaskStates } from "@fastgpu/domain/states";
import type { Check } from "./check.ts";

const taskStarts = ["DRAFT", "QUEUED"];
const attemptStarts = ["LEASED"];

/** `from>to` of every legal step, `>to` of every first state. */
function pairs(
  starts: readonly string[],
  graph: Readonly<Record<string, readonly string[]>>,
): string[] {
  const steps = Object.entries(graph).flatMap(([from, next]) => next.map((to) => `${from}>${to}`));
  return [...starts.map((state) => `>${state}`), ...steps];
}

function graphCheck(table: string, legal: readonly string[]): Check {
  return {
    invariant: "I15",
    promise: `${table} came to their states by a declared step`,
    tables: [`scheduler.${table}`],
    sql: `SELECT format('%s came from %s to %s', id, coalesce(prev_state, 'nothing'), state) AS violation
          FROM scheduler.${table} WHERE coalesce(prev_state, '') || '>' || state <> ALL ($1::text[])`,
    values: () => [legal],
  };
}

/** I15: states follow the declared graph, and those of a task and its attempts agree. I6: gangs are whole. */
export const stateChecks: readonly Check[] = [
  graphCheck("tasks", pairs(taskStarts, taskTransitions)),
  graphCheck("attempts", pairs(attemptStarts, attemptTransitions)),
  {
    invariant: "I15",
    promise: "a task that ended has no live attempt",
    tables: ["scheduler.tasks", "scheduler.attempts"],
    sql: `SELECT format('task %s is %s, its attempt %s is %s', t.id, t.state, a.id, a.state) AS violation
          FROM scheduler.attempts a JOIN scheduler.tasks t ON t.id = a.task_id
          WHERE a.state <> 'ENDED' AND t.state = ANY ($1::text[])`,
    values: () => [[...terminalTaskStates]],
  },
  {
    invariant: "I6",
    promise: "an attempt has all members of its gang, of one epoch, and each as many GPUs",
    tables: ["scheduler.tasks", "scheduler.attempts", "scheduler.allocations"],
    sql: `SELECT format('attempt %s of task %s: %s members from %s to %s of epochs %s to %s with %s to %s GPUs; %s wanted with %s',
                        a.id, t.id, count(*), min(a.member), max(a.member), min(a.epoch), max(a.epoch), min(a.gpus),
                        max(a.gpus), t.replicas, t.gpu_count) AS violation
          FROM (
            SELECT m.id, m.member, m.task_id, m.epoch, count(l.gpu_id) AS gpus
            FROM scheduler.attempts m LEFT JOIN scheduler.allocations l ON l.attempt_id = m.id AND l.member = m.member
            GROUP BY m.id, m.member
          ) a
          JOIN scheduler.tasks t ON t.id = a.task_id
          GROUP BY a.id, t.id
          HAVING count(*) <> t.replicas OR min(a.member) <> 0 OR max(a.member) <> t.replicas - 1
              OR min(a.epoch) <> max(a.epoch) OR min(a.gpus) <> t.gpu_count OR max(a.gpus) <> t.gpu_count`,
  },
  {
    invariant: "I15",
    promise: "a plain task under way has exactly its own attempt alive",
    tables: ["scheduler.tasks", "scheduler.attempts"],
    sql: `SELECT format('task %s is %s with attempt %s; alive: %s', t.id, t.state, coalesce(t.attempt_id::text, 'none'),
                        coalesce(string_agg(DISTINCT a.id::text, ', '), 'none')) AS violation
          FROM scheduler.tasks t
          LEFT JOIN scheduler.attempts a ON a.task_id = t.id AND a.state <> 'ENDED'
          WHERE t.array_count IS NULL AND t.state IN ('SCHEDULED', 'STARTING', 'RUNNING', 'STOPPING', 'FINALIZING')
          GROUP BY t.id
          HAVING count(DISTINCT a.id) <> 1 OR min(a.id::text) IS DISTINCT FROM t.attempt_id::text
              OR min(a.epoch) IS DISTINCT FROM t.epoch`,
  },
];

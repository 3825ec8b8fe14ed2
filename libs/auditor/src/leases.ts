import type { Check } from "./check.ts";

/** I5: a GPU is in at most one lease at any instant. */
export const leaseChecks: readonly Check[] = [
  {
    invariant: "I5",
    promise: "a GPU has at most one unreleased allocation",
    tables: ["scheduler.allocations"],
    sql: `SELECT format('GPU %s is in %s leases: attempts %s', gpu_id, count(*), string_agg(attempt_id::text, ', '))
            AS violation
          FROM scheduler.allocations WHERE released_ms IS NULL GROUP BY gpu_id HAVING count(*) > 1`,
  },
  {
    invariant: "I5",
    promise: "allocations of a GPU never overlap in time",
    tables: ["scheduler.allocations"],
    sql: `SELECT format('GPU %s: attempt %s from %s overlaps attempt %s, held until %s', gpu_id, attempt_id, from_ms,
                        before, coalesce(held_until::text, 'now')) AS violation
          FROM (
            SELECT gpu_id, attempt_id, from_ms, lag(attempt_id) OVER w AS before, lag(released_ms) OVER w AS held_until
            FROM scheduler.allocations
            WINDOW w AS (PARTITION BY gpu_id ORDER BY from_ms, coalesce(released_ms, 9223372036854775807), attempt_id)
          ) ordered
          WHERE before IS NOT NULL AND (held_until IS NULL OR held_until > from_ms)`,
  },
  {
    invariant: "I5",
    promise: "a leased GPU names the attempt and the member whose allocation is unreleased",
    tables: ["scheduler.allocations", "scheduler.gpus"],
    sql: `SELECT format('GPU %s is %s with attempt %s member %s; its unreleased allocation is of %s member %s', g.id,
                        g.state, coalesce(g.attempt_id::text, 'none'), g.member,
                        coalesce(a.attempt_id::text, 'none'), coalesce(a.member, 0)) AS violation
          FROM scheduler.gpus g
          LEFT JOIN scheduler.allocations a ON a.gpu_id = g.id AND a.released_ms IS NULL
          WHERE (g.state = 'LEASED' OR a.attempt_id IS NOT NULL) AND (g.attempt_id IS DISTINCT FROM a.attempt_id OR (g.attempt_id IS NOT NULL AND g.member <> a.member))`,
  },
  {
    invariant: "I5",
    promise: "an attempt, or a gang's member, that ended holds no GPU",
    tables: ["scheduler.allocations", "scheduler.attempts"],
    sql: `SELECT format('attempt %s ended and still holds GPU %s', t.id, a.gpu_id) AS violation
          FROM scheduler.attempts t JOIN scheduler.allocations a ON a.attempt_id = t.id AND a.member = t.member
          WHERE t.state = 'ENDED' AND a.released_ms IS NULL`,
  },
];

import type { Check } from "./check.ts";

const key = "attempt %s member %s GPU %s";

/** I8: every allocated GPU-second is rated exactly once. */
export const usageChecks: readonly Check[] = [
  {
    invariant: "I8",
    promise: "segments are numbered 1, 2, 3, … and each starts where the one before ended",
    tables: ["billing.usage_records"],
    sql: `SELECT format('${key}: segment %s starts at %s; expected segment %s at %s', attempt_id, member, gpu_id, seq,
                        start_ms, number, coalesce(before_ms::text, 'any')) AS violation
          FROM (
            SELECT attempt_id, member, gpu_id, seq, start_ms, row_number() OVER w AS number, lag(end_ms) OVER w AS before_ms
            FROM billing.usage_records
            WINDOW w AS (PARTITION BY attempt_id, member, gpu_id ORDER BY seq)
          ) ordered
          WHERE seq <> number OR (before_ms IS NOT NULL AND start_ms <> before_ms)`,
  },
  {
    invariant: "I8",
    promise:
      "what is rated was allocated: it starts with the allocation and ends within what was cut",
    tables: ["billing.usage_records", "scheduler.allocations"],
    sql: `SELECT format('${key}: rated from %s to %s in %s segments, allocated from %s to %s in %s', u.attempt_id,
                        u.member, u.gpu_id, u.start_ms, u.end_ms, u.segments, a.from_ms, a.cut_ms, a.seq) AS violation
          FROM (
            SELECT attempt_id, member, gpu_id, min(start_ms) AS start_ms, max(end_ms) AS end_ms, max(seq) AS segments
            FROM billing.usage_records GROUP BY attempt_id, member, gpu_id
          ) u
          LEFT JOIN scheduler.allocations a USING (attempt_id, member, gpu_id)
          WHERE a.attempt_id IS NULL OR u.start_ms <> a.from_ms OR u.end_ms > a.cut_ms OR u.segments > a.seq`,
  },
  {
    invariant: "I8",
    promise: "all that was cut is rated, once its events are applied",
    tables: ["billing.usage_records", "scheduler.allocations"],
    sql: `SELECT format('${key}: cut until %s in %s segments, rated until %s in %s', a.attempt_id, a.member, a.gpu_id,
                        a.cut_ms, a.seq, coalesce(u.end_ms::text, 'never'), coalesce(u.segments, 0)) AS violation
          FROM scheduler.allocations a
          LEFT JOIN (
            SELECT attempt_id, member, gpu_id, max(end_ms) AS end_ms, count(*) AS segments
            FROM billing.usage_records GROUP BY attempt_id, member, gpu_id
          ) u USING (attempt_id, member, gpu_id)
          WHERE a.attempt_id <> ALL ($1::uuid[])
            AND (coalesce(u.segments, 0) <> a.seq OR coalesce(u.end_ms, a.from_ms) <> a.cut_ms)`,
    values: (snapshot) => [snapshot.unsettledAttempts],
  },
  {
    invariant: "I8",
    promise: "no two segments of a GPU overlap",
    tables: ["billing.usage_records"],
    sql: `SELECT format('GPU %s: attempt %s segment %s starts at %s, attempt %s was rated until %s', gpu_id, attempt_id,
                        seq, start_ms, before, before_ms) AS violation
          FROM (
            SELECT gpu_id, attempt_id, seq, start_ms, lag(attempt_id) OVER w AS before, lag(end_ms) OVER w AS before_ms
            FROM billing.usage_records WHERE end_ms > start_ms
            WINDOW w AS (PARTITION BY gpu_id ORDER BY start_ms, end_ms)
          ) ordered
          WHERE before_ms > start_ms`,
  },
  {
    invariant: "I8",
    promise: "every amount is ⌊P·b/h⌋ − ⌊P·a/h⌋ of its pinned price, or 0 with a reason",
    tables: ["billing.usage_records", "billing.prices"],
    sql: `SELECT format('${key} segment %s: %s nanos, expected %s', u.attempt_id, u.member, u.gpu_id, u.seq, u.amount,
                        rated.amount) AS violation
          FROM billing.usage_records u
          LEFT JOIN billing.prices p ON p.sku = u.sku AND p.version = u.price_version
          CROSS JOIN LATERAL (
            SELECT CASE WHEN u.free_reason IS NOT NULL THEN 0
              ELSE div(p.hourly_nanos::numeric * u.billing_end_ms, 3600000)
                 - div(p.hourly_nanos::numeric * u.billing_start_ms, 3600000) END AS amount
          ) rated
          WHERE u.amount IS DISTINCT FROM rated.amount
             OR (u.free_reason IS NULL AND u.kind NOT IN ('billable', 'stopping'))`,
  },
  {
    invariant: "I8",
    promise:
      "what an attempt's usage costs was charged to its hold or borne as a loss, exactly once",
    tables: ["billing.usage_records", "billing.transfers"],
    sql: `SELECT format('attempt %s: usage %s nanos, charged %s', coalesce(u.attempt_id, t.subject),
                        coalesce(u.amount, 0), coalesce(t.amount, 0)) AS violation
          FROM (SELECT attempt_id, sum(amount) AS amount FROM billing.usage_records GROUP BY attempt_id) u
          FULL JOIN (
            SELECT subject, sum(amount) AS amount FROM billing.transfers WHERE code IN ('charge', 'overrun')
            GROUP BY subject
          ) t ON t.subject = u.attempt_id
          WHERE coalesce(u.amount, 0) <> coalesce(t.amount, 0)`,
  },
];

import type { Check } from "./check.ts";

/** I12 for one service's schema: its log has no gap, and nobody is ahead of it. */
export function eventChecks(schema: string, others: readonly string[]): readonly Check[] {
  const heads = others
    .map((other) => `SELECT '${other}' AS producer, incarnation, head_seq FROM ${other}.event_head`)
    .join(" UNION ALL ");
  const inboxes = others
    .map((other) => `SELECT '${other}' AS consumer, producer, last_seq FROM ${other}.inbox`)
    .join(" UNION ALL ");
  return [
    {
      invariant: "I12",
      promise: `the log of ${schema} is gapless from its retention to its head`,
      tables: [`${schema}.event_log`, `${schema}.event_head`],
      sql: `SELECT format('%s events from %s to %s; trimmed to %s, head %s', count(l.seq), min(l.seq), max(l.seq),
                          h.trimmed_seq, h.head_seq) AS violation
            FROM ${schema}.event_head h LEFT JOIN ${schema}.event_log l ON true
            GROUP BY h.trimmed_seq, h.head_seq
            HAVING count(l.seq) <> h.head_seq - h.trimmed_seq OR coalesce(max(l.seq), h.head_seq) <> h.head_seq
                OR coalesce(min(l.seq), h.trimmed_seq + 1) <> h.trimmed_seq + 1`,
    },
    {
      invariant: "I12",
      promise: `an event is in the log of ${schema} once`,
      tables: [`${schema}.event_log`, `${schema}.outbox`],
      sql: `SELECT format('event %s stands %s times', event_id, count(*)) AS violation
            FROM (SELECT event_id FROM ${schema}.event_log UNION ALL SELECT event_id FROM ${schema}.outbox) every
            GROUP BY event_id HAVING count(*) > 1`,
    },
    {
      invariant: "I12",
      promise: `the log of ${schema} tells each thing's changes in order`,
      tables: [`${schema}.event_log`],
      sql: `SELECT format('%s %s: revision %s at seq %s follows %s', type, aggregate, aggregate_revision, seq, before)
              AS violation
            FROM (
              SELECT type, aggregate, aggregate_revision, seq,
                lag(aggregate_revision) OVER (PARTITION BY type, aggregate ORDER BY seq) AS before
              FROM ${schema}.event_log
            ) ordered
            WHERE aggregate_revision < before`,
    },
    {
      invariant: "I12",
      promise: `${schema} has applied nothing that its producers have not written`,
      tables: [`${schema}.inbox`],
      sql: `SELECT format('%s applied up to %s of incarnation %s; the head is %s of %s', i.producer, i.last_seq,
                          i.incarnation, h.head_seq, h.incarnation) AS violation
            FROM ${schema}.inbox i JOIN (${heads}) h USING (producer)
            WHERE i.last_seq > h.head_seq OR i.incarnation > h.incarnation`,
    },
    {
      invariant: "I12",
      promise: `nobody has confirmed more of ${schema} than he has applied`,
      tables: [`${schema}.event_consumers`],
      sql: `SELECT format('%s confirmed %s and applied %s', c.consumer, c.confirmed_seq, coalesce(i.last_seq, 0))
              AS violation
            FROM ${schema}.event_consumers c
            LEFT JOIN (${inboxes}) i ON i.consumer = c.consumer AND i.producer = '${schema}'
            WHERE c.consumer = ANY ($1::text[]) AND c.confirmed_seq > coalesce(i.last_seq, 0)`,
      values: () => [others],
    },
  ];
}

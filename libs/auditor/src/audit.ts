import { idToUuid, parseId } from "@fastgpu/domain/ids";
import { topics } from "@fastgpu/events/topics";
import { openPool, statement } from "@fastgpu/postgres/pool";
import type { Pool, Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Check, Invariant, Snapshot } from "./check.ts";
import { eventChecks } from "./events.ts";
import { leaseChecks } from "./leases.ts";
import { ledgerChecks } from "./ledger.ts";
import { stateChecks } from "./states.ts";
import { usageChecks } from "./usage.ts";

/** What one check found. */
export interface CheckResult {
  readonly invariant: Invariant;
  readonly promise: string;
  readonly ok: boolean;
  /** True where a table is missing: the service is not installed in this database. */
  readonly skipped: boolean;
  /** How many there are. */
  readonly count: number;
  /** The first of them. */
  readonly violations: readonly string[];
}

/** What an audit found. */
export interface AuditReport {
  readonly ok: boolean;
  readonly checks: readonly CheckResult[];
}

const SHOWN = 20;
const AUDIT_TIMEOUT_MS = 600_000;

/** Opens the one connection that an audit needs, as the role `auditor`. */
export function openAuditor(options: { readonly url: string; readonly log: Logger }): Pool {
  const { url, log } = options;
  return openPool({ url, name: "auditor", log, max: 1, statementTimeoutMs: AUDIT_TIMEOUT_MS });
}

/**
 * Checks everything in one snapshot (REPEATABLE READ, read only), beside running services:
 * what is still on its way between them is known and counts as neither lost nor doubled.
 */
export async function audit(auditor: Pool): Promise<AuditReport> {
  return transaction(
    auditor,
    async (tx) => {
      const tables = await readTables(tx);
      const schemas = messagingSchemas(tables);
      const snapshot: Snapshot = { unsettledAttempts: await readUnsettled(tx, tables) };
      const all = [
        ...leaseChecks,
        ...usageChecks,
        ...ledgerChecks,
        ...stateChecks,
        ...schemas.flatMap((schema) => eventChecks(schema, schemas)),
      ];
      const checks: CheckResult[] = [];
      for (const check of all) checks.push(await runCheck(tx, check, { tables, snapshot }));
      return { ok: checks.every((check) => check.ok), checks };
    },
    { isolation: "REPEATABLE READ", readOnly: true },
  );
}

/** One line a broken promise, with its first violations: for an assertion's message or a terminal. */
export function describeFailures(report: AuditReport): string {
  return report.checks
    .filter((check) => !check.ok)
    .map(
      (check) =>
        `${check.invariant} ${check.promise}: ${check.count}×\n  ${check.violations.join("\n  ")}`,
    )
    .join("\n");
}

async function runCheck(
  tx: Querier,
  check: Check,
  at: { tables: ReadonlySet<string>; snapshot: Snapshot },
): Promise<CheckResult> {
  const { invariant, promise } = check;
  if (!check.tables.every((table) => at.tables.has(table))) {
    return { invariant, promise, ok: true, skipped: true, count: 0, violations: [] };
  }
  const text = `SELECT violation, count(*) OVER () AS total FROM (${check.sql}) found LIMIT ${SHOWN}`;
  // Not worth preparing by name: each runs once.
  const rows = await tx.query(
    statement<{ violation: string; total: bigint }>("", text),
    check.values?.(at.snapshot) ?? [],
  );
  const violations = rows.map((row) => row.violation);
  return {
    invariant,
    promise,
    ok: rows.length === 0,
    skipped: false,
    count: Number(rows[0]?.total ?? 0n),
    violations,
  };
}

const listTables = statement<{ name: string }>(
  "auditor_tables",
  `SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`,
);

async function readTables(tx: Querier): Promise<ReadonlySet<string>> {
  return new Set((await tx.query(listTables)).map((row) => row.name));
}

function messagingSchemas(tables: ReadonlySet<string>): string[] {
  const suffix = ".event_head";
  return [...tables]
    .filter((table) => table.endsWith(suffix))
    .map((table) => table.slice(0, -suffix.length))
    .filter((schema) => /^[a-z][a-z0-9_]*$/.test(schema))
    .sort();
}

const listUnsettled = statement<{ aggregate: string }>(
  "auditor_unsettled",
  `SELECT DISTINCT aggregate FROM scheduler.event_log
   WHERE type = $1 AND seq > coalesce((SELECT last_seq FROM billing.inbox WHERE producer = 'scheduler'), 0)
   UNION SELECT aggregate FROM scheduler.outbox WHERE type = $1`,
);

/** Attempts whose newest usage billing has not seen in this snapshot. */
async function readUnsettled(tx: Querier, tables: ReadonlySet<string>): Promise<string[]> {
  const needed = ["scheduler.event_log", "scheduler.outbox", "billing.inbox"];
  if (!needed.every((table) => tables.has(table))) return [];
  const rows = await tx.query(listUnsettled, [topics.usageCut.type]);
  return rows.flatMap(({ aggregate }) => {
    const id = parseId("att", aggregate);
    return id === undefined ? [] : [idToUuid(id)];
  });
}

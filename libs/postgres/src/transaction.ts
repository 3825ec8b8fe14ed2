import { Fault } from "@fastgpu/domain/fault";
import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { isRetryable, toFault } from "./errors.ts";
import { statement } from "./pool.ts";
import type { Connection, Pool, Querier } from "./pool.ts";

declare const inTransaction: unique symbol;

/** An open transaction. Store functions take one; only the use case opens it. */
export interface Tx extends Querier, Pick<Connection, "copyIn"> {
  readonly [inTransaction]: true;
}

/** Options of {@link transaction}. */
export interface TransactionOptions {
  readonly isolation?: "READ COMMITTED" | "REPEATABLE READ" | "SERIALIZABLE";
  readonly readOnly?: boolean;
  /** Uniform in [0, 1), for the jitter between attempts. */
  readonly random?: () => number;
}

const RETRIES = 3;

/**
 * Runs `work` in one transaction. A serialization failure or deadlock (40001, 40P01) is retried
 * three times, so `work` must have no effect outside the database. A commit whose outcome is
 * unknown is a Fault UNAVAILABLE and never retried here: the caller's request id makes that safe.
 * Other errors of the driver come out as Faults too.
 */
export async function transaction<T>(
  pool: Pool,
  work: (tx: Tx) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const random = options.random ?? Math.random;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await pool.withConnection((connection) => runOnce(connection, work, options));
    } catch (error) {
      if (!isRetryable(error) || attempt >= RETRIES) throw toFault(error);
      await new Promise((resolve) => setTimeout(resolve, 5 * 2 ** attempt * (0.5 + random())));
    }
  }
}

async function runOnce<T>(
  connection: Connection,
  work: (tx: Tx) => Promise<T>,
  options: TransactionOptions,
): Promise<T> {
  const mode = `${options.isolation ?? "READ COMMITTED"}${options.readOnly === true ? ", READ ONLY" : ""}`;
  await connection.command(`BEGIN ISOLATION LEVEL ${mode}`);
  let result: T;
  try {
    // The one place that makes a Tx: the brand exists only in types.
    const tx: Pick<Connection, "query" | "copyIn"> = {
      query: (statement, values) => connection.query(statement, values),
      copyIn: (text, data) => connection.copyIn(text, data),
    };
    result = await work(tx as Tx);
  } catch (error) {
    await connection.command("ROLLBACK").catch(() => connection.discard());
    throw error;
  }
  try {
    await connection.command("COMMIT");
  } catch (error) {
    connection.discard();
    if (isRetryable(error)) throw error;
    const fault = toFault(error);
    if (fault.reason !== "UNAVAILABLE") throw fault;
    throw new Fault(
      "UNAVAILABLE",
      "the connection was lost while committing: the outcome is unknown",
      {
        hint: "send the same request again with the same request_id",
        retryAfterMs: 1_000,
        cause: error,
      },
    );
  }
  return result;
}

/** Whose rows a transaction of an `_api` role may see and change. */
export interface Tenant {
  readonly org: OrgId;
  /** One project, or `all` of the organisation. */
  readonly project: ProjectId | "all";
}

const setTenant = statement<{ org: string }>(
  "set_tenant",
  "SELECT set_config('fastgpu.org', $1, true) AS org, set_config('fastgpu.project', $2, true)",
);

/**
 * Narrows the rest of the transaction to one tenant (SET LOCAL: it ends with the transaction).
 * Without it an `_api` role sees no row of any tenant table.
 */
export async function withTenant(tx: Tx, tenant: Tenant): Promise<void> {
  const project = tenant.project === "all" ? "all" : idToUuid(tenant.project);
  await tx.query(setTenant, [idToUuid(tenant.org), project]);
}

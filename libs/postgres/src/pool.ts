import type { Logger } from "@fastgpu/telemetry/log";
import pg from "pg";
import { copyIn } from "./copy.ts";
import { toFault } from "./errors.ts";

/** A named statement: parsed once a connection, then only bound and executed (twice the rate). */
export interface Statement<Row> {
  /** Unique in the service; at most 63 characters. */
  readonly name: string;
  readonly text: string;
  /** Never set: it carries the type of a row. */
  readonly row?: Row;
}

/** Makes a named statement. `Row` says what its rows look like: int8 is bigint, timestamptz Date, bytea Buffer. */
export function statement<Row = never>(name: string, text: string): Statement<Row> {
  if (name.length > 63) throw new RangeError(`statement name too long: ${name}`);
  return { name, text };
}

/** Whatever runs statements: a pool (each its own transaction) or a transaction. Throws Faults or driver errors. */
export interface Querier {
  query<Row>(statement: Statement<Row>, values?: readonly unknown[]): Promise<Row[]>;
}

/** A pool of connections of one role. */
export interface Pool extends Querier, AsyncDisposable {
  /** Runs `use` on one connection; the connection is discarded when `use` throws an error that broke it. */
  withConnection<T>(use: (connection: Connection) => Promise<T>): Promise<T>;
  /** Milliseconds since the epoch by the database's clock: what a Clock is synchronised to. */
  databaseMs(): Promise<number>;
  readonly url: string;
}

/** One connection; statements run one after the other. */
export interface Connection extends Querier {
  /** Runs `COPY … FROM STDIN (FORMAT binary)` with its data: the quick way in for many rows. */
  copyIn(text: string, data: Buffer): Promise<void>;
  /** Runs SQL without parameters that is not worth preparing (BEGIN, SET LOCAL). */
  command(text: string): Promise<void>;
  /** Marks the connection as unusable: it is closed instead of being reused. */
  discard(): void;
}

/** Options of {@link openPool}. */
export interface PoolOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly name: string;
  readonly log: Logger;
  /** Greatest number of connections; 5 a service over all its pools. */
  readonly max?: number;
  readonly statementTimeoutMs?: number;
}

const INT8 = 20;
const INT8_ARRAY = 1016;

const toBigints = (text: string): (bigint | null)[] =>
  text === "{}"
    ? []
    : text
        .slice(1, -1)
        .split(",")
        .map((part) => (part === "NULL" ? null : BigInt(part)));

/** int8 becomes bigint: a seq, a revision or an amount must never pass through a double. */
const types: pg.CustomTypesConfig = {
  getTypeParser(id, format) {
    if (format !== "binary" && id === INT8) return BigInt;
    if (format !== "binary" && Number(id) === INT8_ARRAY) return toBigints;
    return pg.types.getTypeParser(id, format);
  },
};

/** Connection settings that every connection of ours has. */
export function clientConfig(options: {
  url: string;
  name: string;
  statementTimeoutMs?: number;
}): pg.ClientConfig {
  return {
    connectionString: options.url,
    application_name: options.name,
    statement_timeout: options.statementTimeoutMs ?? 30_000,
    idle_in_transaction_session_timeout: 60_000,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    types,
  };
}

/** Opens a pool. Connections are made when needed and closed after 10 s without work. */
export function openPool(options: PoolOptions): Pool {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.max ?? 5,
    idleTimeoutMillis: 10_000,
  });
  // An idle connection that breaks is the pool's to replace; without a listener it would end the process.
  pool.on("error", (error) =>
    options.log.warn({ reason: error.message, pool: options.name }, "idle connection lost"),
  );

  const withConnection = async <T>(use: (connection: Connection) => Promise<T>): Promise<T> => {
    const client = await pool.connect().catch((error: unknown) => {
      throw toFault(error);
    });
    const broken = listen(client);
    let discarded = false;
    try {
      return await use({
        query: (statement, values) => run(client, statement, values),
        copyIn: (text, data) => copyIn(client, text, data),
        command: async (text) => void (await client.query(text)),
        discard: () => (discarded = true),
      });
    } finally {
      broken[Symbol.dispose]();
      client.release(discarded || broken.lost());
    }
  };
  let closed: Promise<void> | undefined;
  return {
    url: options.url,
    withConnection,
    query: (statement, values) =>
      withConnection((connection) => connection.query(statement, values)),
    async databaseMs() {
      const [row] = await withConnection((connection) => connection.query(readClock));
      return row?.ms ?? 0;
    },
    [Symbol.asyncDispose]: () => (closed ??= pool.end()),
  };
}

const readClock = statement<{ ms: number }>(
  "read_clock",
  "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms",
);

/** Runs a named statement on a client of the driver. */
export async function run<Row>(
  client: pg.ClientBase,
  statement: Statement<Row>,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const result = await client.query<Row & pg.QueryResultRow>({
    name: statement.name,
    text: statement.text,
    values: [...values],
  });
  return result.rows;
}

/** Watches a borrowed connection: a loss between two statements must not end the process. */
function listen(client: pg.ClientBase): { lost(): boolean } & Disposable {
  let lost = false;
  const onError = (): void => {
    lost = true;
  };
  client.on("error", onError);
  return { lost: () => lost, [Symbol.dispose]: () => void client.off("error", onError) };
}

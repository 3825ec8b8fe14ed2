import { Fault } from "@fastgpu/domain/fault";

/** The part of a Postgres error that code may depend on. */
interface DatabaseError {
  readonly code: string;
  readonly constraint?: string | undefined;
}

function databaseError(error: unknown): DatabaseError | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string")
    return undefined;
  const constraint =
    "constraint" in error && typeof error.constraint === "string" ? error.constraint : undefined;
  return { code: error.code, constraint };
}

/** Serialization failure or deadlock: nothing happened, and the same transaction may succeed now. */
export function isRetryable(error: unknown): boolean {
  const code = databaseError(error)?.code;
  return code === "40001" || code === "40P01";
}

/** A value or a constraint was violated: the statement itself can never succeed as it is. */
export function isDataError(error: unknown): boolean {
  const code = databaseError(error)?.code ?? "";
  return /^2[23][0-9A-Z]{3}$/.test(code);
}

/** Tells whether this error is the violation of the constraint of that name. */
export function violates(error: unknown, constraint: string): boolean {
  return isDataError(error) && databaseError(error)?.constraint === constraint;
}

/** The server is gone, full, starting or stopping: the connection tells nothing about the work. */
export function isUnavailable(error: unknown): boolean {
  const code = databaseError(error)?.code ?? "";
  if (/^(08|57P|53)/.test(code)) return true;
  if (/^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)/.test(code))
    return true;
  const text = error instanceof Error ? error.message : "";
  return /Connection terminated|Client was closed|timeout exceeded when trying to connect|not queryable|Client has encountered a connection error/.test(
    text,
  );
}

/** Any error of the driver as a Fault; a Fault stays what it is. */
export function toFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  if (isUnavailable(error)) {
    return new Fault("UNAVAILABLE", "the database does not answer", {
      retryAfterMs: 1_000,
      cause: error,
    });
  }
  if (isRetryable(error)) {
    return new Fault("UNAVAILABLE", "too many concurrent changes", {
      retryAfterMs: 100,
      cause: error,
    });
  }
  if (databaseError(error)?.code === "57014") {
    return new Fault("DEADLINE_EXCEEDED", "a statement took too long", { cause: error });
  }
  return Fault.from(error);
}

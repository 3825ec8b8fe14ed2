/** The invariants of docs/design that this library can see in the database. */
export type Invariant = "I5" | "I6" | "I8" | "I9" | "I10" | "I12" | "I15";

/** One question to the database. */
export interface Check {
  readonly invariant: Invariant;
  /** What must hold, as a sentence. */
  readonly promise: string;
  /** Tables it reads; where one is missing the check is skipped (a service not installed). */
  readonly tables: readonly string[];
  /** A SELECT with one text column `violation`, a row for each. Parameters are those of `values`. */
  readonly sql: string;
  readonly values?: (snapshot: Snapshot) => readonly unknown[];
}

/** What is read once for all checks, in their transaction. */
export interface Snapshot {
  /** Attempts (uuid) with usage that billing has not applied yet: events are on their way. */
  readonly unsettledAttempts: readonly string[];
}

/** What a check found: fine, worth knowing, or in the way. */
export type CheckStatus = "ok" | "warning" | "failed";

/** One finding about this machine. */
export interface Check {
  name: string;
  status: CheckStatus;
  detail: string;
  /** What helps, where something does. */
  hint?: string;
}

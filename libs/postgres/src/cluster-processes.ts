import { rm } from "node:fs/promises";
import { join } from "node:path";
import { endLeftovers } from "@fastgpu/lifecycle/child";
import type { ChildOptions, ProcessInfo } from "@fastgpu/lifecycle/child";

/** Fast shutdown first, then immediate (the next start recovers from the log), then SIGKILL. */
export const postgresStopSignals: ChildOptions["stopSignals"] = [
  { signal: "SIGINT", waitMs: 20_000 },
  { signal: "SIGQUIT", waitMs: 5_000 },
];

/**
 * Ends whatever still runs on a cluster and removes its lock file. The lock file's process id is
 * never trusted: after a crash or in a new container it may belong to anybody.
 */
export async function endClusterProcesses(clusterDir: string): Promise<void> {
  const ours = (info: ProcessInfo): boolean =>
    info.program === "postgres" && info.cwd === clusterDir;
  await endLeftovers(ours, postgresStopSignals);
  await rm(join(clusterDir, "postmaster.pid"), { force: true });
}

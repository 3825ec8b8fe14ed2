import { checks } from "./checks.ts";
import type { BlockReason } from "./checks.ts";
import type { Cluster } from "./cluster.ts";
import type { Shape } from "./shapes.ts";

/** One reason why nodes cannot take a shape, with how many nodes it stops. */
export interface Blocker {
  readonly reason: BlockReason;
  /** Nodes that fail this check, whatever else they fail. */
  readonly nodes: number;
  /** Nodes that fail this check and no other: each would do if only this were mended. */
  readonly nodesOtherwiseFit: number;
}

/** Where a shape stands: how many nodes would take it now, and what stops the others. */
export interface FitReport {
  readonly nodes: number;
  readonly fitting: number;
  /** Most nodes first; checks that stop no node are left out. */
  readonly blockers: readonly Blocker[];
}

/** Runs every check on every distinct state; nodes in one state are counted together. */
export function explainFit(cluster: Cluster, shape: Shape): FitReport {
  const { states } = cluster;
  const failing = checks.map(() => 0);
  const alone = checks.map(() => 0);
  let nodes = 0;
  let fitting = 0;
  for (let slot = 0; slot < states.slots; slot++) {
    const users = states.users[slot]!;
    if (users === 0) continue;
    nodes += users;
    let failed = 0;
    let lastFailed = -1;
    for (const [index, check] of checks.entries()) {
      if (check.passes(cluster, slot, shape)) continue;
      failing[index]! += users;
      failed++;
      lastFailed = index;
    }
    if (failed === 0) fitting += users;
    if (failed === 1) alone[lastFailed]! += users;
  }
  const blockers = checks
    .map(({ reason }, index) => ({
      reason,
      nodes: failing[index]!,
      nodesOtherwiseFit: alone[index]!,
    }))
    .filter((blocker) => blocker.nodes > 0)
    .sort((a, b) => b.nodes - a.nodes || b.nodesOtherwiseFit - a.nodesOtherwiseFit);
  return { nodes, fitting, blockers };
}

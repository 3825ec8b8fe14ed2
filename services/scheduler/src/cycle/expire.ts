import type { NodeId } from "@fastgpu/domain/ids";
import { assertLeader } from "@fastgpu/postgres/leader";
import type { Tx } from "@fastgpu/postgres/transaction";
import { readLiveAttemptsOf, type StoredAttempt } from "../store/attempts.ts";
import { lockNode, storeNodeState, type StoredNode } from "../store/nodes.ts";
import { applyAttemptEvents, type Applied } from "../transition/apply.ts";
import type { AttemptEvent } from "../transition/fold.ts";
import { cycleLeader } from "./commit.ts";

/**
 * Ends the attempts of a node whose lease has passed by more than the skew: only now may they be placed again.
 * What happened since the last heartbeat is unknown and free; the GPUs stay out of use until the node reconciles.
 */
export async function expireNode(
  tx: Tx,
  node: NodeId,
  at: { leaderEpoch: bigint; nowMs: number; skewMs: number },
): Promise<Applied | undefined> {
  await assertLeader(tx, cycleLeader, at.leaderEpoch);
  const attempts = await readLiveAttemptsOf(tx, [node]);
  const events = attempts.map((attempt) => lostEvent(attempt, at.nowMs, undefined));
  // The node before its tasks: the order of everybody who ends what a node runs.
  const stored = await lockNode(tx, node);
  if (stored === undefined || !hasExpired(stored, at)) return undefined;
  const applied = await applyAttemptEvents(
    tx,
    events.map((event) => withLastSeen(event, stored)),
    at.nowMs,
  );
  await storeNodeState(tx, [node], "LOST");
  return applied;
}

/** Whether a node's lease has passed by more than the skew. */
export function hasExpired(
  node: StoredNode,
  at: { readonly nowMs: number; readonly skewMs: number },
): boolean {
  return node.state !== "LOST" && at.nowMs >= node.leaseUntilMs + at.skewMs;
}

/** The end of an attempt of which nothing is known since `unknownFromMs`. */
export function lostEvent(
  attempt: StoredAttempt,
  nowMs: number,
  unknownFromMs: number | undefined,
): AttemptEvent {
  return {
    attempt: attempt.id,
    member: attempt.member,
    node: attempt.node,
    epoch: attempt.epoch,
    atMs: nowMs,
    what: {
      kind: "ended",
      end: {
        exitClass: "node_lost",
        message: "its node was lost",
        goneMs: nowMs,
        ...(unknownFromMs === undefined ? {} : { unknownFromMs }),
      },
    },
  };
}

function withLastSeen(event: AttemptEvent, node: StoredNode): AttemptEvent {
  if (event.what.kind !== "ended") return event;
  const end = { ...event.what.end, unknownFromMs: node.lastSeenMs };
  return { ...event, what: { kind: "ended", end } };
}

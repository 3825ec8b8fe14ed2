import type { Hello, LiveAttempt } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { GpuId, NodeId } from "@fastgpu/domain/ids";
import { memberName } from "@fastgpu/domain/member-name";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { newId } from "../new-id.ts";
import { readLiveAttemptsOf, type StoredAttempt } from "../store/attempts.ts";
import {
  lockNode,
  openSession,
  readGpusOf,
  releaseUnknownGpus,
  storeGpus,
} from "../store/nodes.ts";
import { applyAttemptEvents, type Applied } from "../transition/apply.ts";
import type { AttemptEvent } from "../transition/fold.ts";
import { lostEvent } from "../cycle/expire.ts";

/** What a Hello leads to. */
export interface OpenedSession {
  readonly sessionEpoch: number;
  /** Ids of the Hello's GPUs, in its order. */
  readonly gpus: readonly GpuId[];
  /** Names of attempts and members of the Hello that go on. */
  readonly adopted: readonly string[];
  readonly leaseUntilMs: number;
  readonly applied: Applied;
}

/**
 * Opens a session and reconciles: what both sides list goes on; what only the server lists, and had been taken up, is
 * lost; what only the worker lists is not its to go on with. After this the node's GPUs are known again.
 */
export async function openWorkerSession(
  core: Pool,
  hello: Hello,
  at: { node: NodeId; replica: string; nowMs: number; leaseTtlMs: number },
): Promise<OpenedSession> {
  return transaction(core, async (tx) => {
    const { node, nowMs } = at;
    const before = await lockNode(tx, node);
    const leaseUntilMs = nowMs + at.leaseTtlMs;
    const sessionEpoch = await openSession(tx, {
      id: node,
      displayName: hello.displayName,
      workerVersion: hello.workerVersion,
      bootId: hello.bootId,
      replica: at.replica,
      cpuMillis: Number(hello.cpuMillis),
      memoryMib: Number(hello.memoryMib),
      diskMib: Number(hello.diskMib),
      runtimes: hello.runtimes,
      topology: hello.topology,
      leaseUntilMs,
      nowMs,
    });
    await storeGpus(
      tx,
      node,
      hello.gpus.map((gpu) => ({
        newId: newId("gpu", nowMs),
        index: gpu.index,
        uuid: gpu.uuid,
        model: gpu.model,
        memoryMib: Number(gpu.memoryMib),
        simulated: gpu.simulated,
      })),
    );
    const live = await readLiveAttemptsOf(tx, [node]);
    const { adopted, lost } = reconcile(live, hello.liveAttempts);
    const seenMs = before?.lastSeenMs ?? nowMs;
    const events = lost.map((attempt) => endOfLost(attempt, nowMs, seenMs));
    const applied = await applyAttemptEvents(tx, events, nowMs);
    await releaseUnknownGpus(tx, node);
    const stored = await readGpusOf(tx, [node]);
    const byUuid = new Map(stored.map((gpu) => [gpu.uuid, gpu.id]));
    const gpus = hello.gpus.flatMap((gpu) => byUuid.get(gpu.uuid) ?? []);
    return { sessionEpoch, gpus, adopted, leaseUntilMs, applied };
  });
}

function reconcile(
  live: readonly StoredAttempt[],
  listed: readonly LiveAttempt[],
): { adopted: string[]; lost: StoredAttempt[] } {
  const epochs = new Map(listed.map((each) => [each.attempt, Number(each.epoch)]));
  const adopted: string[] = [];
  const lost: StoredAttempt[] = [];
  for (const attempt of live) {
    const name = memberName({ attempt: attempt.id, member: attempt.member });
    if (epochs.get(name) === attempt.epoch) adopted.push(name);
    // A lease that was not taken up is simply sent again.
    else if (attempt.state !== "LEASED") lost.push(attempt);
  }
  return { adopted, lost };
}

/** An attempt that the worker does not have: stopped before it came there, or lost with what ran. */
function endOfLost(attempt: StoredAttempt, nowMs: number, seenMs: number): AttemptEvent {
  const event = lostEvent(attempt, nowMs, attempt.runningMs === undefined ? undefined : seenMs);
  if (
    attempt.stopClass === undefined ||
    attempt.runningMs !== undefined ||
    event.what.kind !== "ended"
  ) {
    return event;
  }
  const end = {
    ...event.what.end,
    exitClass: attempt.stopClass,
    message: "stopped before it began",
  };
  return { ...event, what: { kind: "ended", end } };
}

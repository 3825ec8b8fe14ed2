import { create } from "@bufbuild/protobuf";
import {
  ConnectResponseSchema,
  type ConnectRequest,
  type ConnectResponse,
  type Heartbeat,
  type Hello,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId, type NodeId } from "@fastgpu/domain/ids";
import { memberName, parseMemberName } from "@fastgpu/domain/member-name";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { openWorkerSession, type OpenedSession } from "../session/open-session.ts";
import { createSendQueue } from "../session/queue.ts";
import { stamped, toEvents } from "../session/reports.ts";
import { fencedFault, type Session } from "../session/sessions.ts";
import { storeSaved } from "../store/attempts.ts";
import { storeNodeState } from "../store/nodes.ts";
import { storeProgress } from "../store/tasks.ts";

/** The worker's session: Hello, then messages of both sides until one of them ends it. */
export async function* connect(
  s: Scheduler,
  requests: AsyncIterable<ConnectRequest>,
  context: CallContext,
): AsyncGenerator<ConnectResponse> {
  const node = callingNode(context);
  const incoming = requests[Symbol.asyncIterator]();
  const first = await incoming.next();
  if (first.done === true) return;
  if (first.value.message.case !== "hello") {
    throw Fault.invalid("hello", "must be the first message of a session");
  }
  const hello = first.value.message.value;
  const at = { node, replica: s.replica, nowMs: s.clock.nowMs(), leaseTtlMs: s.config.leaseTtlMs };
  const opened = await openWorkerSession(s.core, hello, at);
  // What a gang has lost here stops its members elsewhere.
  s.changed({ tasks: opened.applied.tasks, nodes: [...new Set([node, ...opened.applied.nodes])] });
  const queue = createSendQueue<ConnectResponse>(context.signal);
  const session: Session = {
    ...{ node, epoch: opened.sessionEpoch, queue, sent: new Set() },
    grants: grantsOf(hello, opened),
  };
  context.log.info({ node, session: session.epoch, gpus: hello.gpus.length }, "worker connected");
  queue.push(welcome(s, node, opened));
  s.sessions.add(session);
  void receive(s, session, incoming).then(
    () => queue.end(),
    (error: unknown) => queue.end(error),
  );
  try {
    yield* queue;
  } finally {
    s.sessions.remove(session);
    context.log.info({ node, session: session.epoch }, "worker disconnected");
    await incoming.return?.();
  }
}

/** Members whose storage grants this session renews: at first those that it goes on with, which need one at once. */
function grantsOf(hello: Hello, { adopted }: OpenedSession): Session["grants"] {
  // A no-op worker runs nothing, whatever kinds of task it takes.
  if (hello.runtimes.includes("noop")) return undefined;
  return new Map(adopted.map((name) => [name, 0]));
}

/** The node that calls: a worker acts for its own node only. */
export function callingNode(context: CallContext): NodeId {
  const node =
    context.principal.kind === "worker" ? parseId("node", context.principal.id) : undefined;
  if (node === undefined) {
    throw new Fault("PERMISSION_DENIED", "only a worker that has joined may open a session");
  }
  return node;
}

function welcome(s: Scheduler, node: NodeId, opened: OpenedSession): ConnectResponse {
  const value = {
    node,
    sessionEpoch: BigInt(opened.sessionEpoch),
    incarnation: s.incarnation,
    heartbeatIntervalMs: BigInt(Math.floor(s.config.leaseTtlMs / 3)),
    leaseTtlMs: BigInt(s.config.leaseTtlMs),
    skewMs: BigInt(s.config.skewMs),
    gpus: [...opened.gpus],
    adoptedAttempts: [...opened.adopted],
  };
  return create(ConnectResponseSchema, { message: { case: "welcome", value } });
}

async function receive(
  s: Scheduler,
  session: Session,
  incoming: AsyncIterator<ConnectRequest>,
): Promise<void> {
  for (;;) {
    const next = await incoming.next();
    if (next.done === true) return;
    const { message } = next.value;
    switch (message.case) {
      case "heartbeat":
        // Not awaited: a renewal waits for its batch, and reports must not wait for it.
        void answerHeartbeat(s, session, message.value).catch((error: unknown) =>
          session.queue.end(error),
        );
        break;
      case "reports": {
        const receivedMs = s.clock.nowMs();
        const { reports } = message.value;
        const last = reports.at(-1)?.reportId ?? 0n;
        await s.reports.submit(toEvents(reports, { node: session.node, receivedMs }));
        const value = { upToReportId: last };
        session.queue.push(
          create(ConnectResponseSchema, { message: { case: "reportAcks", value } }),
        );
        break;
      }
      case "draining":
        await storeNodeState(s.core, [session.node], "DRAINING");
        s.changed({ tasks: [], nodes: [session.node] });
        break;
      case "hello":
        throw Fault.invalid("hello", "comes once, at the beginning of a session");
      case undefined:
        break;
    }
  }
}

async function answerHeartbeat(
  s: Scheduler,
  session: Session,
  heartbeat: Heartbeat,
): Promise<void> {
  const receivedMs = s.clock.nowMs();
  const renewed = await s.sessions.renew(session);
  if (!renewed.stands) {
    session.queue.end(fencedFault());
    return;
  }
  const value = {
    sentAtMs: heartbeat.sentAtMs,
    serverTimeMs: BigInt(receivedMs),
    nodeLeaseEndMs: BigInt(renewed.leaseUntilMs),
    fundedEnds: renewed.fundedEnds.map((end) => ({
      attempt: memberName(end),
      endMs: BigInt(end.untilMs),
    })),
    storageGrants: await s.sessions.renewGrants(session),
  };
  session.queue.push(create(ConnectResponseSchema, { message: { case: "heartbeatAck", value } }));
  const progress = heartbeat.progress.flatMap((item) => {
    const who = parseMemberName(item.attempt);
    // A gang tells of itself through its member 0.
    if (who?.member !== 0 || item.progress === undefined) return [];
    return [
      {
        attempt: who.attempt,
        epoch: Number(item.epoch),
        progress: stamped(item.progress, receivedMs),
      },
    ];
  });
  if (progress.length > 0) {
    s.watchers.notify(await storeProgress(s.core, session.node, progress));
  }
  const saved = savedOf(heartbeat, receivedMs);
  if (saved.length > 0) await storeSaved(s.core, session.node, saved);
}

/** Checkpoints that a heartbeat tells of, in the server's time. */
function savedOf(heartbeat: Heartbeat, receivedMs: number) {
  return heartbeat.progress.flatMap(({ attempt: name, epoch, savedAgoMs }) => {
    const member = parseMemberName(name);
    if (member === undefined || savedAgoMs === undefined) return [];
    return [{ ...member, epoch: Number(epoch), savedMs: receivedMs - Number(savedAgoMs) }];
  });
}

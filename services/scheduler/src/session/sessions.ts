import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  ConnectResponseSchema,
  LeaseSchema,
  StopSchema,
  type ConnectResponse,
  type GangSchema,
  type Lease,
  type Stop,
  type StoredCheckpointSchema,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import type { NodeId } from "@fastgpu/domain/ids";
import { memberName, type Member } from "@fastgpu/domain/member-name";
import { startLoop, type Loop } from "@fastgpu/lifecycle/loop";
import { createBatchWriter, type BatchWriter } from "@fastgpu/postgres/batch-writer";
import type { Pool } from "@fastgpu/postgres/pool";
import type { Logger } from "@fastgpu/telemetry/log";
import { exitClassToWire } from "../api/wire-states.ts";
import { renewLeases } from "../store/nodes.ts";
import { readFundedEnds, readWork, type NodeWork } from "../store/work.ts";
import type { StorageGrants } from "./grants.ts";
import type { SendQueue } from "./queue.ts";

/** A worker's session on this replica. */
export interface Session {
  readonly node: NodeId;
  readonly epoch: number;
  readonly queue: SendQueue<ConnectResponse>;
  /** Leases and stops sent in this session; sending one twice would be harmless, but idle chatter. */
  readonly sent: Set<string>;
  /** When each member's storage grant is renewed, in milliseconds; undefined where the worker stores nothing. */
  readonly grants: Map<string, number> | undefined;
}

/** What a renewal answers. */
export interface Renewed {
  /** False where a newer session exists or the node was lost: this session is over. */
  readonly stands: boolean;
  readonly leaseUntilMs: number;
  readonly fundedEnds: readonly (Member & { readonly untilMs: number })[];
}

/** The sessions of this replica: who is connected, and the one sender that tells them what to do. */
export interface Sessions extends AsyncDisposable {
  add(session: Session): void;
  /** Forgets a session, unless a newer one of its node took its place. */
  remove(session: Session): void;
  /** There may be something to send to these nodes. */
  poke(nodes: Iterable<NodeId>): void;
  /** Renews a node's lease; many nodes go in one statement. */
  renew(session: Session): Promise<Renewed>;
  /** Storage grants that the session needs anew, by the names of members. */
  renewGrants(session: Session): Promise<{ attempt: string; grant: string }[]>;
  /** Number of connected workers. */
  readonly size: number;
}

/** Options of {@link createSessions}. */
export interface SessionsOptions {
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stop: AbortSignal;
  readonly leaseTtlMs: number;
  readonly grants: StorageGrants;
}

/** The poll that covers a lost poke and the leases of another replica's cycle. */
const pollMs = 1_000;

/** Starts the sender; it sleeps while nobody is connected. */
export function createSessions(options: SessionsOptions): Sessions {
  const { core, clock, log, grants } = options;
  const sessions = new Map<NodeId, Session>();
  const poked = new Set<NodeId>();
  let polledMs = 0;
  const sender: Loop = startLoop({
    name: "lease sender",
    stop: options.stop,
    log,
    idleMs: pollMs,
    step: async () => {
      const all = clock.nowMs() - polledMs >= pollMs;
      if (all) polledMs = clock.nowMs();
      const nodes = all ? [...sessions.keys()] : [...poked].filter((node) => sessions.has(node));
      poked.clear();
      if (nodes.length > 0) await send({ sessions, clock, grants }, await readWork(core, nodes));
      return "idle";
    },
  });
  const renewals = createRenewals(options);
  return {
    get size() {
      return sessions.size;
    },
    add(session) {
      sessions.get(session.node)?.queue.end(fencedFault());
      sessions.set(session.node, session);
      poked.add(session.node);
      sender.wake();
    },
    remove(session) {
      if (sessions.get(session.node) === session) sessions.delete(session.node);
    },
    poke(nodes) {
      for (const node of nodes) poked.add(node);
      sender.wake();
    },
    renew: (session) => renewals.submit(session),
    renewGrants: (session) => grants.renew(core, session),
    async [Symbol.asyncDispose]() {
      await sender[Symbol.asyncDispose]();
      await renewals[Symbol.asyncDispose]();
    },
  };
}

/** The end of a session that another one has taken the place of. */
export function fencedFault(): Fault {
  return new Fault("FENCED", "a newer session of this worker exists, or its node was lost", {
    hint: "connect again and reconcile",
  });
}

function createRenewals(options: SessionsOptions): BatchWriter<Session, Renewed> {
  const { core, clock, leaseTtlMs } = options;
  return createBatchWriter({
    maxItems: 2_000,
    maxDelayMs: 20,
    write: async (items: readonly Session[]) => {
      const nowMs = clock.nowMs();
      const leaseUntilMs = nowMs + leaseTtlMs;
      const sorted = items.toSorted((a, b) => (a.node < b.node ? -1 : 1));
      const standing = await renewLeases(
        core,
        sorted.map(({ node, epoch }) => ({ node, sessionEpoch: epoch, leaseUntilMs })),
        nowMs,
      );
      const ends = Map.groupBy(await readFundedEnds(core, [...standing]), (end) => end.node);
      return items.map(({ node }) => ({
        stands: standing.has(node),
        leaseUntilMs,
        fundedEnds: ends.get(node) ?? [],
      }));
    },
  });
}

async function send(
  by: Pick<SessionsOptions, "clock" | "grants"> & {
    readonly sessions: ReadonlyMap<NodeId, Session>;
  },
  work: readonly NodeWork[],
): Promise<void> {
  for (const [node, items] of Map.groupBy(work, (item) => item.node)) {
    const session = by.sessions.get(node);
    if (session === undefined) continue;
    const fresh = items.filter((item) => !session.sent.has(sentKey(item)));
    for (const item of fresh) session.sent.add(sentKey(item));
    const leases = fresh.filter((item) => item.stop === undefined);
    const stops = fresh.filter((item) => item.stop !== undefined);
    if (leases.length > 0) {
      const granted = leases.map(async (item) => ({
        item,
        grant: await by.grants.ofLease(session, item),
      }));
      const nowMs = by.clock.nowMs();
      const made = (await Promise.all(granted)).map((each) =>
        toLease(each.item, each.grant, nowMs),
      );
      const value = { leases: made };
      session.queue.push(create(ConnectResponseSchema, { message: { case: "leases", value } }));
    }
    if (stops.length > 0) {
      const value = { stops: stops.map(toStop) };
      session.queue.push(create(ConnectResponseSchema, { message: { case: "stops", value } }));
    }
    forgetDone(session, items);
  }
}

const sentKey = (item: NodeWork): string =>
  `${item.stop === undefined ? "lease" : "stop"} ${memberName(item)}`;

/** Keys of work that is done would pile up over a long session. */
function forgetDone(session: Session, items: readonly NodeWork[]): void {
  if (session.sent.size <= 10_000) return;
  const open = new Set(items.map(sentKey));
  for (const key of session.sent) if (!open.has(key)) session.sent.delete(key);
}

function toLease(item: NodeWork, storageGrant: string, nowMs: number): Lease {
  const spec = fromBinary(TaskSpecSchema, item.spec);
  return create(LeaseSchema, {
    attempt: memberName(item),
    task: item.task,
    org: item.org,
    project: item.project,
    epoch: BigInt(item.epoch),
    spec,
    gpus: [...item.gpus],
    leaseEndMs: BigInt(item.leaseEndMs),
    serverTimeMs: BigInt(nowMs),
    traceparent: item.traceparent,
    elements: (item.elements ?? []).map(({ first, last }) => ({ first, last })),
    slots: item.slots,
    attemptNumber: item.number,
    displayName: item.displayName,
    ...(item.checkpoint === undefined ? {} : { checkpoint: storedCheckpoint(item.checkpoint) }),
    ...(spec.replicas === 0 ? {} : { gang: gangOf(item) }),
    storageGrant,
  });
}

function storedCheckpoint(
  checkpoint: Exclude<NodeWork["checkpoint"], undefined>,
): MessageInitShape<typeof StoredCheckpointSchema> {
  return { manifestDigest: checkpoint.digest, epoch: BigInt(checkpoint.epoch) };
}

/** Who asks for a gang has one, of one member too. */
function gangOf({ member, memberNodes }: NodeWork): MessageInitShape<typeof GangSchema> {
  return { rank: member, size: memberNodes.length, nodes: [...memberNodes] };
}

function toStop(item: NodeWork): Stop {
  return create(StopSchema, {
    attempt: memberName(item),
    epoch: BigInt(item.epoch),
    reason: exitClassToWire(item.stop?.reason ?? "cancelled"),
    graceMs: BigInt(item.stop?.graceMs ?? 0),
  });
}

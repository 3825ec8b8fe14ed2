import { Fault } from "@fastgpu/domain/fault";
import type { NodeId, OrgId } from "@fastgpu/domain/ids";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { AuditFact } from "./audit/chain.ts";
import { sameMac } from "./keys/api-key.ts";
import {
  JOIN_TOKEN_TTL_MS,
  formatJoinToken,
  joinTokenMac,
  newJoinTokenParts,
  parseJoinToken,
} from "./keys/join-token.ts";
import { freshId, keyPurposes } from "./parts.ts";
import { appendAudit } from "./store/audit-events.ts";
import { insertJoinToken, lockJoinToken, useJoinToken } from "./store/worker-join-tokens.ts";
import type { WorkerJoinToken } from "./store/worker-join-tokens.ts";
import { findWorkerByKey, insertWorker } from "./store/workers.ts";

/** An invitation, its text shown once. */
export interface Invitation {
  readonly joinToken: string;
  readonly expiresMs: number;
}

/** Options of {@link inviteWorker}. */
export interface InviteOptions {
  readonly master: MasterKey;
  readonly nowMs: number;
  /** The organisation in whose audit log the invitation and the join are recorded. */
  readonly org: OrgId;
  readonly invitedBy: string;
  /** Request id of the call, for the audit log. */
  readonly requestId?: string;
}

/** Makes a single-use join token. The composition root calls it in-process for the workers that it starts itself. */
export async function inviteWorker(core: Pool, options: InviteOptions): Promise<Invitation> {
  const { master, nowMs, org } = options;
  const parts = newJoinTokenParts(freshId("join", nowMs));
  const expiresMs = nowMs + JOIN_TOKEN_TTL_MS;
  await transaction(core, async (tx) => {
    await insertJoinToken(tx, {
      joinId: parts.joinId,
      orgId: org,
      mac: joinTokenMac(master.derive(keyPurposes.joinTokens), parts),
      createdBy: options.invitedBy,
      createdMs: nowMs,
      expiresMs,
    });
    await appendAudit(tx, org, [
      workerFact({
        nowMs,
        principal: options.invitedBy,
        method: "CreateWorkerJoinToken",
        resource: parts.joinId,
        requestId: options.requestId ?? "",
      }),
    ]);
  });
  return { joinToken: formatJoinToken(parts), expiresMs };
}

/** Options of {@link joinWorker}. */
export interface JoinOptions {
  readonly master: MasterKey;
  readonly nowMs: number;
  readonly joinToken: string;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly displayName: string;
  readonly requestId?: string;
}

/**
 * Uses a join token: registers the worker's key and answers its node id. The same token and key again get the same
 * answer, even after the token's end; another key is JOIN_TOKEN_USED. A key that is registered keeps its node id.
 */
export async function joinWorker(core: Pool, options: JoinOptions): Promise<NodeId> {
  const parsed = parseJoinToken(options.joinToken);
  if (parsed === undefined) throw unknownToken();
  return transaction(core, async (tx) => {
    const token = await lockJoinToken(tx, parsed.joinId);
    const mac = joinTokenMac(options.master.derive(keyPurposes.joinTokens), parsed);
    if (token === undefined || !sameMac(token.mac, mac)) throw unknownToken();
    if (token.use !== undefined) return repeatedJoin(token.use, options.publicKey);
    if (token.expiresMs <= options.nowMs) {
      throw new Fault("TOKEN_EXPIRED", "the join token has expired", {
        hint: "make a new one; a join token is valid for one hour",
      });
    }
    return firstJoin(tx, token, options);
  });
}

async function firstJoin(tx: Tx, token: WorkerJoinToken, options: JoinOptions): Promise<NodeId> {
  const { nowMs, publicKey, displayName } = options;
  const known = await findWorkerByKey(tx, publicKey);
  const nodeId = known ?? freshId("node", nowMs);
  if (known === undefined) {
    await insertWorker(tx, {
      nodeId,
      publicKey: Buffer.from(publicKey),
      displayName,
      joinedMs: nowMs,
    });
  }
  await useJoinToken(tx, token.joinId, { nodeId, publicKey });
  await appendAudit(tx, token.orgId, [
    workerFact({
      nowMs,
      principal: nodeId,
      method: "JoinWorker",
      resource: `nodes/${nodeId}`,
      requestId: options.requestId ?? "",
    }),
  ]);
  return nodeId;
}

function repeatedJoin(use: NonNullable<WorkerJoinToken["use"]>, publicKey: Uint8Array): NodeId {
  if (sameMac(use.publicKey, publicKey)) return use.nodeId;
  throw new Fault("JOIN_TOKEN_USED", "the join token was used with another key", {
    hint: "make a new join token for this worker",
  });
}

function unknownToken(): Fault {
  return new Fault("UNAUTHENTICATED", "the join token is malformed or unknown", {
    hint: "make a new one: fastgpu node invite",
  });
}

function workerFact(fact: {
  nowMs: number;
  principal: string;
  method: string;
  resource: string;
  requestId: string;
}): AuditFact {
  return {
    timeMs: fact.nowMs,
    principal: fact.principal,
    method: `fastgpu.auth.v1.WorkerIdentityService/${fact.method}`,
    resource: fact.resource,
    project: "",
    requestId: fact.requestId,
    deniedCalls: 0,
  };
}

import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";

/** What happened, before it has a place in the chain. */
export interface AuditFact {
  readonly timeMs: number;
  /** Key, node or service id. */
  readonly principal: string;
  /** Full method name. */
  readonly method: string;
  /** Resource name, empty where there is none. */
  readonly resource: string;
  /** Project id, empty where there is none. */
  readonly project: string;
  readonly requestId: string;
  /** 0 for a change; else how many calls were refused in a minute. */
  readonly deniedCalls: number;
}

/** A fact at its place in the chain of one organisation. */
export interface ChainedEvent extends AuditFact {
  /** 1, 2, 3, … without a gap, for each organisation. */
  readonly seq: number;
  /** Hexadecimal. */
  readonly hash: string;
}

/** A signed statement that the chain reached `hash` at `seq`. Nothing before it can be changed any more. */
export interface AuditCheckpoint {
  /** 1, 2, 3, … without a gap, for each organisation. */
  readonly number: number;
  readonly seq: number;
  readonly hash: string;
  readonly timeMs: number;
  /** Ed25519 over the canonical form, hexadecimal. */
  readonly signature: string;
}

/** The outcome of {@link verifyChain}: whole, or the first place where it is not. */
export type ChainVerdict =
  | { readonly kind: "intact"; readonly seq: number; readonly hash: string }
  | { readonly kind: "broken"; readonly seq: number; readonly why: string };

/** The hash before the first event: it names the organisation, so that chains cannot be exchanged. */
export function genesisHash(org: string): string {
  return sha256(JSON.stringify(["fastgpu-audit-v1", org]));
}

/**
 * Hash of an event: SHA-256 of the previous hash, a line feed and the event as a JSON array of fixed order. JSON of
 * strings and integers has one spelling (RFC 8785), so any language can check it.
 */
export function eventHash(previous: string, seq: number, fact: AuditFact): string {
  const canonical = JSON.stringify([
    seq,
    fact.timeMs,
    fact.principal,
    fact.method,
    fact.resource,
    fact.project,
    fact.requestId,
    fact.deniedCalls,
  ]);
  return sha256(`${previous}\n${canonical}`);
}

/** Puts facts behind the present end of a chain. */
export function chainFacts(
  head: { readonly seq: number; readonly hash: string },
  facts: readonly AuditFact[],
): ChainedEvent[] {
  let { seq, hash } = head;
  return facts.map((fact) => {
    seq += 1;
    hash = eventHash(hash, seq, fact);
    return { ...fact, seq, hash };
  });
}

/** The key pair that signs checkpoints; made from the master key, so it is the same after every start. */
export function checkpointKeys(master: MasterKey): { privateKey: KeyObject; publicKey: KeyObject } {
  // The fixed head of an Ed25519 private key in PKCS #8 (RFC 8410); the 32-byte seed follows.
  const head = Buffer.from("302e020100300506032b657004220420", "hex");
  const privateKey = createPrivateKey({
    key: Buffer.concat([head, master.derive("audit-checkpoints")]),
    format: "der",
    type: "pkcs8",
  });
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/** Signs where a chain stands. */
export function signCheckpoint(
  org: string,
  checkpoint: Omit<AuditCheckpoint, "signature">,
  privateKey: KeyObject,
): AuditCheckpoint {
  const signature = sign(null, statement(org, checkpoint), privateKey).toString("hex");
  return { ...checkpoint, signature };
}

/**
 * Checks the whole chain of one organisation: any edit, deletion, insertion, reordering or exchange breaks a hash or
 * a number; cutting off the end contradicts a signed checkpoint. Checkpoints kept elsewhere (`witnesses`: the file
 * outside the database, an export) also catch a cut that removed the database's own checkpoints with it.
 */
export function verifyChain(input: {
  readonly org: string;
  readonly events: readonly ChainedEvent[];
  readonly checkpoints: readonly AuditCheckpoint[];
  readonly witnesses?: readonly AuditCheckpoint[];
  readonly publicKey: KeyObject;
}): ChainVerdict {
  const hashes = [genesisHash(input.org)];
  for (const event of input.events) {
    const seq = hashes.length;
    if (event.seq !== seq) {
      return { kind: "broken", seq, why: `event ${seq} is missing or out of place` };
    }
    const expected = eventHash(hashes[seq - 1] ?? "", seq, event);
    if (event.hash !== expected) return { kind: "broken", seq, why: `event ${seq} was changed` };
    hashes.push(expected);
  }
  for (const [index, checkpoint] of input.checkpoints.entries()) {
    if (checkpoint.number !== index + 1) {
      return { kind: "broken", seq: checkpoint.seq, why: `checkpoint ${index + 1} is missing` };
    }
  }
  for (const checkpoint of [...input.checkpoints, ...(input.witnesses ?? [])]) {
    const why = contradiction(input.org, checkpoint, hashes, input.publicKey);
    if (why !== undefined) return { kind: "broken", seq: checkpoint.seq, why };
  }
  const seq = hashes.length - 1;
  return { kind: "intact", seq, hash: hashes[seq] ?? "" };
}

function contradiction(
  org: string,
  checkpoint: AuditCheckpoint,
  hashes: readonly string[],
  publicKey: KeyObject,
): string | undefined {
  const name = `checkpoint ${checkpoint.number}`;
  const signature = Buffer.from(checkpoint.signature, "hex");
  if (!verify(null, statement(org, checkpoint), publicKey, signature)) {
    return `${name} is not signed by this installation`;
  }
  const hash = hashes[checkpoint.seq];
  if (hash === undefined) {
    return `events ${hashes.length} to ${checkpoint.seq} were cut off (${name})`;
  }
  return hash === checkpoint.hash ? undefined : `${name} states another history`;
}

function statement(org: string, checkpoint: Omit<AuditCheckpoint, "signature">): Buffer {
  return Buffer.from(
    JSON.stringify([
      "fastgpu-audit-checkpoint-v1",
      org,
      checkpoint.number,
      checkpoint.seq,
      checkpoint.hash,
      checkpoint.timeMs,
    ]),
  );
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

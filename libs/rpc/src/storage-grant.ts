import { createPrivateKey, createPublicKey } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { ArtifactId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { parseMemberName } from "@fastgpu/domain/member-name";
import { SignJWT, errors, jwtVerify } from "jose";
import type { JWTPayload } from "jose";

/** Header of a worker's call to storage that carries the grant. */
export const storageGrantHeader = "x-storage-grant";

/**
 * What a worker may do in storage: what one attempt needs. The scheduler signs it with the key of its service tokens;
 * issuer, audience and type are others, so that neither can be taken for the other.
 */
export interface StorageGrant {
  /** The one worker that may use it. */
  readonly node: NodeId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly task: TaskId;
  /** Name of the attempt, or of the gang's member. */
  readonly attempt: string;
  readonly epoch: number;
  /** Artifacts of the project that the attempt reads as inputs. */
  readonly inputs: readonly ArtifactId[];
}

/** Why a grant is refused, in the fault's metadata as `grant`. */
export type GrantRefusal = "missing" | "expired" | "invalid" | "foreign";

const issuer = "fastgpu-scheduler";
const audience = "fastgpu-storage";
const type = "grant+jwt";
/** Difference of clocks that is forgiven, in seconds. */
const toleranceS = 5;
/** Verified grants that are remembered; one is verified again after it fell out. */
const rememberedGrants = 10_000;

const hints: Readonly<Record<GrantRefusal, string>> = {
  missing:
    "a worker gets a grant with each lease: bring scheduler and worker to this version, or start storage with " +
    "storage.requireGrants: false until they are",
  expired:
    "heartbeats bring new grants while an attempt lives: this one's attempt has ended or its session is lost",
  invalid:
    "storage.serviceKeys.scheduler must be the public key of the scheduler that sent the lease",
  foreign: "a worker reads and stores only what belongs to an attempt that it holds",
};

/** The refusal of a worker's call. */
export function grantRefused(why: GrantRefusal, message: string, cause?: unknown): Fault {
  return new Fault("PERMISSION_DENIED", message, {
    hint: hints[why],
    metadata: { grant: why },
    cause,
  });
}

/** Signs grants with a service's private key (PEM). */
export function createGrantSigner(privateKeyPem: string): {
  /** The token of a grant that ends at `expiresAtMs`, in milliseconds since the epoch; whole seconds count. */
  sign(grant: StorageGrant, at: { nowMs: number; expiresAtMs: number }): Promise<string>;
} {
  const privateKey = createPrivateKey(privateKeyPem);
  return {
    sign: (grant, { nowMs, expiresAtMs }) =>
      new SignJWT({
        org: grant.org,
        project: grant.project,
        task: grant.task,
        attempt: grant.attempt,
        epoch: grant.epoch,
        ...(grant.inputs.length === 0 ? {} : { inputs: grant.inputs }),
      })
        .setProtectedHeader({ alg: "EdDSA", typ: type })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(grant.node)
        .setIssuedAt(Math.floor(nowMs / 1000))
        .setExpirationTime(Math.floor(expiresAtMs / 1000))
        .sign(privateKey),
  };
}

/** Reads the grants of callers. */
export interface GrantVerifier {
  /** The grant that a token is, for this worker. PERMISSION_DENIED where it is none, another's, or over. */
  verify(token: string, node: string): Promise<StorageGrant>;
}

/** A verifier with the scheduler's public key (PEM). A token seen before is not verified again, only its end is. */
export function createGrantVerifier(options: {
  readonly schedulerKeyPem: string;
  readonly clock: Clock;
}): GrantVerifier {
  const { clock } = options;
  const key = createPublicKey(options.schedulerKeyPem);
  const verified = new Map<string, { readonly grant: StorageGrant; readonly endsAtMs: number }>();

  async function read(token: string): Promise<StorageGrant> {
    const known = verified.get(token);
    if (known !== undefined) {
      if (clock.nowMs() < known.endsAtMs) return known.grant;
      verified.delete(token);
    }
    const { payload } = await jwtVerify(token, key, {
      algorithms: ["EdDSA"],
      ...{ issuer, audience, typ: type },
      currentDate: new Date(clock.nowMs()),
      clockTolerance: toleranceS,
      requiredClaims: ["sub", "exp", "iat"],
    }).catch((error: unknown) => {
      throw describe(error);
    });
    const grant = grantOf(payload);
    if (grant === undefined) throw grantRefused("invalid", "the storage grant says too little");
    const endsAtMs = ((payload.exp ?? 0) + toleranceS) * 1000;
    verified.set(token, { grant, endsAtMs });
    for (const oldest of verified.keys()) {
      if (verified.size <= rememberedGrants) break;
      verified.delete(oldest);
    }
    return grant;
  }

  return {
    async verify(token, node) {
      const grant = await read(token);
      if (grant.node !== node) {
        throw grantRefused("foreign", "the storage grant is for another worker");
      }
      return grant;
    },
  };
}

function grantOf(payload: JWTPayload): StorageGrant | undefined {
  const text = (name: string): string => {
    const value = payload[name];
    return typeof value === "string" ? value : "";
  };
  const node = parseId("node", text("sub"));
  const org = parseId("org", text("org"));
  const project = parseId("proj", text("project"));
  const task = parseId("task", text("task"));
  const attempt = text("attempt");
  const { epoch, inputs = [] } = payload;
  if (node === undefined || org === undefined || project === undefined || task === undefined) {
    return undefined;
  }
  if (parseMemberName(attempt) === undefined || typeof epoch !== "number") return undefined;
  if (!Array.isArray(inputs)) return undefined;
  return {
    ...{ node, org, project, task, attempt, epoch },
    inputs: inputs.flatMap((id: unknown) =>
      typeof id === "string" ? (parseId("art", id) ?? []) : [],
    ),
  };
}

function describe(error: unknown): Fault {
  if (error instanceof errors.JWTExpired) {
    return grantRefused("expired", "the storage grant has ended", error);
  }
  return grantRefused("invalid", "the storage grant is not valid", error);
}

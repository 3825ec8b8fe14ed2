import { createPublicKey } from "node:crypto";
import { decodeJwt, errors, jwtVerify } from "jose";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { NodeId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import { getWorker } from "../store/workers.ts";
import { publicJwk } from "./signing-keys.ts";

/** Audience that a worker's assertion names. */
export const ASSERTION_AUDIENCE = "fastgpu-auth";

const MAX_AGE_S = 300;
const TOLERANCE_S = 5;

/**
 * Whose assertion it is: a JWT (EdDSA) with iss = sub = the node id, aud = `fastgpu-auth`, at most 5 minutes long,
 * signed with the key that the node registered (after RFC 7523).
 */
export async function verifyAssertion(
  db: Querier,
  input: { readonly assertion: string; readonly nowMs: number },
): Promise<NodeId> {
  try {
    const node = parseId("node", decodeJwt(input.assertion).sub ?? "");
    const worker = node === undefined ? undefined : await getWorker(db, node);
    if (worker === undefined) throw refused();
    const key = createPublicKey({ key: publicJwk(worker.publicKey), format: "jwk" });
    const { payload } = await jwtVerify(input.assertion, key, {
      algorithms: ["EdDSA"],
      issuer: worker.nodeId,
      subject: worker.nodeId,
      audience: ASSERTION_AUDIENCE,
      requiredClaims: ["iat", "exp"],
      maxTokenAge: MAX_AGE_S,
      clockTolerance: TOLERANCE_S,
      currentDate: new Date(input.nowMs),
    });
    if ((payload.exp ?? 0) - (payload.iat ?? 0) > MAX_AGE_S) throw refused();
    return worker.nodeId;
  } catch (error) {
    if (error instanceof errors.JWTExpired) {
      throw new Fault("TOKEN_EXPIRED", "the worker's assertion has expired", {
        hint: "does the worker's clock follow the server's?",
        cause: error,
      });
    }
    if (error instanceof errors.JOSEError || error instanceof TypeError) throw refused(error);
    throw error;
  }
}

function refused(cause?: unknown): Fault {
  return new Fault("UNAUTHENTICATED", "the worker's assertion is not valid", {
    hint: "a worker that is not known here joins again with a new join token",
    cause,
  });
}

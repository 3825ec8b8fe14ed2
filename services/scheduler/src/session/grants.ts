import { fromBinary } from "@bufbuild/protobuf";
import { TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Clock } from "@fastgpu/domain/clock";
import type { ArtifactId, ProjectId } from "@fastgpu/domain/ids";
import { memberName, parseMemberName, type Member } from "@fastgpu/domain/member-name";
import type { Querier } from "@fastgpu/postgres/pool";
import { createGrantSigner } from "@fastgpu/rpc/storage-grant";
import { artifactOf } from "../spec/input.ts";
import { readGrantable, type Grantable } from "../store/work.ts";
import type { Session } from "./sessions.ts";

/** Tells workers what each attempt may do in storage. */
export interface StorageGrants {
  /** The grant that goes with a lease; empty in a session that stores nothing. */
  ofLease(
    session: Session,
    work: Omit<Grantable, "state"> & Pick<Session, "node">,
  ): Promise<string>;
  /** New grants for what is still the node's and whose grant is half over, by the names of members. */
  renew(db: Querier, session: Session): Promise<{ attempt: string; grant: string }[]>;
}

/** Makes grants that end after `ttlMs`, signed with the scheduler's private key (PEM). */
export function createStorageGrants(options: {
  readonly privateKeyPem: string;
  readonly clock: Clock;
  readonly ttlMs: number;
}): StorageGrants {
  const { clock, ttlMs } = options;
  const signer = createGrantSigner(options.privateKeyPem);

  const sign = (session: Session, of: Omit<Grantable, "state">, inputs: readonly ArtifactId[]) => {
    const nowMs = clock.nowMs();
    const attempt = memberName(of);
    session.grants?.set(attempt, nowMs + ttlMs / 2);
    const { org, project, task, epoch } = of;
    const grant = { node: session.node, org, project, task, attempt, epoch, inputs };
    return signer.sign(grant, { nowMs, expiresAtMs: nowMs + ttlMs });
  };

  return {
    ofLease: (session, work) =>
      session.grants === undefined ? Promise.resolve("") : sign(session, work, inputsOf(work)),
    async renew(db, session) {
      const nowMs = clock.nowMs();
      const due = [...(session.grants ?? [])].filter(([, renewAtMs]) => renewAtMs <= nowMs);
      if (due.length === 0) return [];
      const members = due.flatMap(([name]): readonly Member[] => {
        const member = parseMemberName(name);
        return member === undefined ? [] : [member];
      });
      // Those that are not found have ended: what their grants allow ends with them.
      for (const [name] of due) session.grants?.delete(name);
      const live = await readGrantable(db, session.node, members);
      return Promise.all(
        live.map(async (work) => {
          const starts = work.state === "LEASED" || work.state === "STARTING";
          const grant = await sign(session, work, starts ? inputsOf(work) : []);
          return { attempt: memberName(work), grant };
        }),
      );
    },
  };
}

function inputsOf(of: { readonly project: ProjectId; readonly spec: Uint8Array }): ArtifactId[] {
  const { inputs } = fromBinary(TaskSpecSchema, of.spec);
  return inputs.flatMap((input) => artifactOf(input, of.project) ?? []);
}

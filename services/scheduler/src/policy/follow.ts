import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import { assertLeader } from "@fastgpu/postgres/leader";
import type { Pool, Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import {
  defaultSchedulingPolicy,
  type SchedulingPolicy,
} from "@fastgpu/scheduling/scheduling-policy";
import type { Logger } from "@fastgpu/telemetry/log";
import { cycleLeader } from "../cycle/commit.ts";
import {
  lockPolicy,
  readPolicyFile,
  readPolicyRevision,
  readStoredPolicy,
  storePolicyFile,
} from "../store/policies.ts";
import { readPolicy } from "./read-policy.ts";
import { setPolicy } from "./set-policy.ts";

/** The policy that is in force, with its revision. */
export interface PolicyInForce {
  readonly revision: number;
  readonly policy: SchedulingPolicy;
}

/** The shipped policy. */
export const shippedPolicy: PolicyInForce = { revision: 0, policy: defaultSchedulingPolicy };

/**
 * The policy that the database has. One that this version does not understand (it was set by a newer one) leaves the
 * shipped policy in force: the platform goes on, and the leader says so.
 */
export async function readPolicyInForce(db: Querier, log?: Logger): Promise<PolicyInForce> {
  const stored = await readStoredPolicy(db);
  if (stored === undefined) return shippedPolicy;
  const { revision, source } = stored;
  try {
    return { revision, policy: readPolicy(source, `revision ${revision}`) };
  } catch (error) {
    log?.error({ err: error, revision }, "the policy cannot be used: the shipped one is in force");
    return { revision, policy: defaultSchedulingPolicy };
  }
}

/** Follows the policy for one term of the leader. */
export interface PolicyFollower {
  readonly current: PolicyInForce;
  /** Looks at the file and at the database; answers the policy where it is a new one. */
  look(): Promise<SchedulingPolicy | undefined>;
}

/** What a follower works with. */
export interface FollowOptions {
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly leaderEpoch: bigint;
  /** The policy file of this replica; undefined: none. */
  readonly file: string | undefined;
  /** Called after a file's policy was written, for the relay. */
  written(): void;
}

/**
 * The truth is the newest row in the database; a file is a way in. The leader takes the content of its file in once:
 * what was set by a call later stays until the file's content changes again.
 */
export async function followPolicy(options: FollowOptions): Promise<PolicyFollower> {
  const { core, log, file } = options;
  let settled: string | undefined;
  let unreadable = false;
  const read = async (): Promise<Content | undefined> => {
    if (file === undefined) return undefined;
    try {
      const text = await readFile(file, "utf8");
      unreadable = false;
      return { text, sha256: createHash("sha256").update(text).digest("hex") };
    } catch (error) {
      // No file is no news; the policy in force stays. Whatever else is in the way is said once, not every second.
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      if (!missing && !unreadable) log.warn({ err: error, file }, "the policy file cannot be read");
      unreadable = true;
      return undefined;
    }
  };
  let looked = (await read())?.sha256;
  const takeFile = async (): Promise<void> => {
    const content = await read();
    // A file that is being written changes from one look to the next.
    const still = content?.sha256 === looked;
    looked = content?.sha256;
    if (content === undefined || !still || content.sha256 === settled) return;
    await importFile(options, content);
    settled = content.sha256;
  };
  await takeFile();
  let current = await readPolicyInForce(core, log);
  return {
    get current() {
      return current;
    },
    async look() {
      await takeFile();
      if ((await readPolicyRevision(core)) === current.revision) return undefined;
      current = await readPolicyInForce(core, log);
      log.info({ revision: current.revision }, "another policy is in force");
      return current.policy;
    },
  };
}

interface Content {
  readonly text: string;
  readonly sha256: string;
}

/** Takes the file's content in, or notes why not, unless it is what was seen last. */
async function importFile(options: FollowOptions, { text, sha256 }: Content): Promise<void> {
  const { core, clock, log, leaderEpoch, file = "" } = options;
  if ((await readPolicyFile(core)).sha256 === sha256) return;
  let problem = "";
  try {
    readPolicy(text, file);
  } catch (error) {
    const fault = Fault.from(error);
    problem = fault.hint === undefined ? fault.message : `${fault.message} (${fault.hint})`;
    log.error({ file, problem }, "the policy file is refused: the policy before it stays");
  }
  const nowMs = clock.nowMs();
  await transaction(core, async (tx) => {
    await assertLeader(tx, cycleLeader, leaderEpoch);
    await lockPolicy(tx);
    await storePolicyFile(tx, { sha256, problem, seenMs: nowMs });
    if (problem !== "") return;
    await setPolicy(tx, {
      ...{ source: text, origin: "file", updatedBy: file, createdMs: nowMs },
      expectedRevision: 0,
      audit: { principal: "service:scheduler", method: "policy file", requestId: sha256 },
      traceparent: "",
    });
  });
  options.written();
}

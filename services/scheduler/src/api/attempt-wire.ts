import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  AttemptSchema,
  type Attempt,
  type AttemptMemberSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { countIndices } from "@fastgpu/domain/index-set";
import { memberName } from "@fastgpu/domain/member-name";
import type { AttemptState } from "@fastgpu/domain/states";
import type { StoredAttempt } from "../store/attempts.ts";
import { at, defined, type Place } from "./task-wire.ts";
import { attemptStateToWire, exitClassToWire } from "./wire-states.ts";

/** The attempt as clients see it: one member's, or a gang's with what all of its members together are. */
export function attemptToWire(
  members: readonly [StoredAttempt, ...StoredAttempt[]],
  places: ReadonlyMap<string, Place>,
): Attempt {
  const [first] = members;
  const elements = first.elements ?? [];
  const placed = members.map((member) => {
    const { id: attempt, member: rank } = member;
    return { member, gpus: places.get(memberName({ attempt, member: rank }))?.gpus ?? [] };
  });
  const state = stateOf(members);
  // The end is told once it is the attempt's: until then a member's is its own.
  const ended = members.find((member) => member.cause) ?? first;
  const end = state === "ENDED" || members.length === 1 ? ended : undefined;
  return create(AttemptSchema, {
    name: `projects/${first.project}/tasks/${first.task}/attempts/${first.id}`,
    epoch: BigInt(first.epoch),
    state: attemptStateToWire(state),
    message: end?.message ?? "",
    node: `nodes/${first.node}`,
    gpus: placed.flatMap(({ gpus }) => gpus),
    arrayFirst: elements[0]?.first ?? 0,
    arrayCount: countIndices(elements),
    checkpointStored: members.every(({ checkpointDigest }) => checkpointDigest !== undefined),
    ...defined({
      exitClass: end?.exitClass === undefined ? undefined : exitClassToWire(end.exitClass),
      exitCode: end?.exitCode,
      leaseTime: at(first.leaseMs),
      startTime: at(latest(members.map(({ runningMs }) => runningMs))),
      endTime: at(latest(members.map(({ endedMs }) => endedMs))),
      checkpointTime: at(first.savedMs),
    }),
    members:
      members.length === 1 ? [] : placed.map(({ member, gpus }) => memberToWire(member, gpus)),
  });
}

function memberToWire(
  member: StoredAttempt,
  gpus: Place["gpus"],
): MessageInitShape<typeof AttemptMemberSchema> {
  return {
    rank: member.member,
    node: `nodes/${member.node}`,
    gpus: [...gpus],
    state: attemptStateToWire(member.state),
    message: member.message,
    ...defined({
      exitClass: member.exitClass === undefined ? undefined : exitClassToWire(member.exitClass),
      exitCode: member.exitCode,
      startTime: at(member.runningMs),
      endTime: at(member.endedMs),
    }),
  };
}

/** Where all of them together stand: a gang runs once all have begun, and ends with the last. */
function stateOf(members: readonly [StoredAttempt, ...StoredAttempt[]]): AttemptState {
  const [first] = members;
  if (members.length === 1) return first.state;
  const states = new Set(members.map(({ state }) => state));
  if (states.size === 1) return first.state;
  if (states.has("STOPPING")) return "STOPPING";
  if (!["LEASED", "STARTING", "RUNNING"].some((state) => states.has(state as AttemptState))) {
    return "FINALIZING";
  }
  return members.every(({ runningMs }) => runningMs !== undefined) ? "RUNNING" : "STARTING";
}

/** The latest of times that are all there; undefined where one is missing. */
function latest(times: readonly (number | undefined)[]): number | undefined {
  return times.includes(undefined) ? undefined : Math.max(...times.map((ms) => ms ?? 0));
}

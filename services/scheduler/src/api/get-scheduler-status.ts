import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type SchedulerStatus,
  SchedulerStatusSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Scheduler } from "../scheduler.ts";
import { readStatus } from "../store/status.ts";

/** The figures that the leader wrote last, from any replica. */
export async function getSchedulerStatus(s: Scheduler): Promise<SchedulerStatus> {
  const status = await readStatus(s.core);
  if (status === undefined) {
    throw new Fault("UNAVAILABLE", "no replica of the scheduler has led yet", {
      retryAfterMs: 1_000,
    });
  }
  const { figures } = status;
  return create(SchedulerStatusSchema, {
    leader: status.leader,
    leaderEpoch: status.leaderEpoch,
    leaderSinceTime: timestampFromMs(status.sinceMs),
    updateTime: timestampFromMs(status.atMs),
    rebuildDuration: duration(figures.rebuildMs),
    waitingTasks: BigInt(figures.waiting),
    liveAttempts: BigInt(figures.liveAttempts),
    readyNodes: BigInt(figures.readyNodes),
    nodes: BigInt(figures.nodes),
    plans: BigInt(figures.plans),
    planDurationP50: duration(figures.planP50Ms),
    planDurationP99: duration(figures.planP99Ms),
    leases: BigInt(figures.leases),
    leasesRejected: BigInt(figures.leasesRejected),
    leasesUnfunded: BigInt(figures.leasesUnfunded),
    preemptions: BigInt(figures.preemptions),
    preemptionsRejected: BigInt(figures.preemptionsRejected),
    runsExpected: BigInt(figures.runsExpected),
    runsUnexpected: BigInt(figures.runsUnexpected),
    runTimeMedianFactorOff: figures.runTimeMedianFactorOff,
    runTimeP90Part: figures.runTimeP90Part,
  });
}

/** To the microsecond: a plan may take less than a millisecond. */
function duration(ms: number): { seconds: bigint; nanos: number } {
  const micros = Math.round(ms * 1_000);
  return { seconds: BigInt(Math.floor(micros / 1e6)), nanos: (micros % 1e6) * 1_000 };
}

import { toJson } from "@bufbuild/protobuf";
import { timestampDate, type Duration } from "@bufbuild/protobuf/wkt";
import {
  type SchedulerStatus,
  SchedulerStatusSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { withApi } from "../api/connect.ts";
import { type CliContext, type CommonOptions, printOptions } from "../context.ts";
import { printOne, type View } from "../output/print.ts";
import { age, isoTime } from "../output/values.ts";

/** A leader writes its figures every 5 s: older than this, it is gone. In milliseconds. */
const staleMs = 15_000;

/** `scheduler status` */
export async function showStatus(context: CliContext, options: CommonOptions): Promise<void> {
  const status = await withApi(context, options, (api) => api.status.getSchedulerStatus({}));
  await printOne(printOptions(context, options), viewAt(context.nowMs()), status);
}

const viewAt = (nowMs: number): View<SchedulerStatus> => ({
  columns: [],
  id: ({ leader }) => leader,
  json: (status) => toJson(SchedulerStatusSchema, status),
  facts: (status) => [
    [
      "leader",
      `${status.leader}, term ${status.leaderEpoch} since ${isoTime(status.leaderSinceTime)}`,
    ],
    ["heard", heard(status, nowMs)],
    ["picture rebuilt in", milliseconds(status.rebuildDuration)],
    ["waiting", `${status.waitingTasks} tasks`],
    ["running", `${status.liveAttempts} attempts on ${status.readyNodes} of ${status.nodes} nodes`],
    [
      "plans",
      `${status.plans}; the last took ${milliseconds(status.planDurationP50)} (median), ` +
        `${milliseconds(status.planDurationP99)} (99 %)`,
    ],
    [
      "leases",
      `${status.leases}, ${status.leasesRejected} refused by the commit, ${status.leasesUnfunded} without money`,
    ],
    ["preemptions", `${status.preemptions}, ${status.preemptionsRejected} refused by the commit`],
    ["run times", expectedInWords(status)],
  ],
});

/** How good what backfill expects is. */
function expectedInWords(status: SchedulerStatus): string {
  const { runsExpected, runsUnexpected, runTimeMedianFactorOff, runTimeP90Part } = status;
  const of = `expected for ${runsExpected} of ${runsExpected + runsUnexpected} runs that ended`;
  if (runsExpected === 0n) return of;
  const within = Math.round(runTimeP90Part * 100);
  return `${of}; off by a factor of ${runTimeMedianFactorOff.toFixed(2)} (median), ${within} % ended within their p90`;
}

function heard({ updateTime }: SchedulerStatus, nowMs: number): string {
  if (updateTime === undefined) return "never";
  const ago = `${age(updateTime, nowMs)} ago`;
  const late = nowMs - timestampDate(updateTime).getTime() > staleMs;
  return late ? `${ago}: no replica leads, look at the schedulers' logs` : ago;
}

function milliseconds(duration: Duration | undefined): string {
  if (duration === undefined) return "";
  const ms = Number(duration.seconds) * 1_000 + duration.nanos / 1e6;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

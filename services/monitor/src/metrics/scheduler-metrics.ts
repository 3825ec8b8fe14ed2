import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { SchedulerStatus } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import type { Clock } from "@fastgpu/domain/clock";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";

/** All metrics of one scrape share an answer that is at most so old, in milliseconds. */
const freshMs = 500;
/** A scrape waits no longer for the scheduler, in milliseconds. */
const timeoutMs = 2_000;

type Values = readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[];

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly values: (status: SchedulerStatus) => Values;
}

const counters: readonly Metric[] = [
  {
    name: "fastgpu_scheduler_plans_total",
    help: "Plans made in this term of leadership.",
    values: ({ plans }) => [[{}, Number(plans)]],
  },
  {
    name: "fastgpu_scheduler_placements_total",
    help: "Placements of this term by what came of them.",
    labels: ["result"],
    values: ({ leases, leasesRejected, leasesUnfunded }) => [
      [{ result: "leased" }, Number(leases)],
      [{ result: "rejected" }, Number(leasesRejected)],
      [{ result: "unfunded" }, Number(leasesUnfunded)],
    ],
  },
  {
    name: "fastgpu_scheduler_preemptions_total",
    help: "Attempts stopped in favour of others in this term, and preemptions that the commit refused.",
    labels: ["result"],
    values: ({ preemptions, preemptionsRejected }) => [
      [{ result: "stopped" }, Number(preemptions)],
      [{ result: "rejected" }, Number(preemptionsRejected)],
    ],
  },
];

const gauges = (clock: Clock): readonly Metric[] => [
  {
    name: "fastgpu_scheduler_status_age_seconds",
    help: "Time since the leader last said how it is doing (in s); more than 10: nobody leads.",
    values: ({ updateTime }) =>
      updateTime === undefined
        ? []
        : [[{}, Math.max(0, clock.nowMs() - timestampMs(updateTime)) / 1_000]],
  },
  {
    name: "fastgpu_scheduler_leader_epoch",
    help: "Number of the term of leadership; a step is a change of leader.",
    values: ({ leaderEpoch }) => [[{}, Number(leaderEpoch)]],
  },
  {
    name: "fastgpu_scheduler_waiting_tasks",
    help: "Tasks and arrays that wait.",
    values: ({ waitingTasks }) => [[{}, Number(waitingTasks)]],
  },
  {
    name: "fastgpu_scheduler_live_attempts",
    help: "Attempts that are leased or run; members of gangs count each.",
    values: ({ liveAttempts }) => [[{}, Number(liveAttempts)]],
  },
  {
    name: "fastgpu_scheduler_nodes",
    help: "Nodes by whether they take work.",
    labels: ["takes_work"],
    values: ({ nodes, readyNodes }) => [
      [{ takes_work: "true" }, Number(readyNodes)],
      [{ takes_work: "false" }, Number(nodes - readyNodes)],
    ],
  },
  {
    name: "fastgpu_scheduler_plan_duration_seconds",
    help: "Time of the last 256 plans (in s).",
    labels: ["quantile"],
    values: ({ planDurationP50, planDurationP99 }) => [
      [{ quantile: "0.5" }, seconds(planDurationP50)],
      [{ quantile: "0.99" }, seconds(planDurationP99)],
    ],
  },
  {
    name: "fastgpu_scheduler_rebuild_seconds",
    help: "Time it took to rebuild the picture at the beginning of the term (in s).",
    values: ({ rebuildDuration }) => [[{}, seconds(rebuildDuration)]],
  },
  {
    name: "fastgpu_scheduler_run_times_expected",
    help: "Ended attempts by whether backfill could expect their run time from the like of them.",
    labels: ["expected"],
    values: ({ runsExpected, runsUnexpected }) => [
      [{ expected: "true" }, Number(runsExpected)],
      [{ expected: "false" }, Number(runsUnexpected)],
    ],
  },
  {
    name: "fastgpu_scheduler_run_time_factor_off",
    help: "Median factor by which run times were off what was expected.",
    values: (status) => ifExpected(status, ({ runTimeMedianFactorOff: off }) => off),
  },
  {
    name: "fastgpu_scheduler_run_time_p90_ratio",
    help: "Part of the runs that ended within the time in which nine in ten were expected to.",
    values: (status) => ifExpected(status, ({ runTimeP90Part }) => runTimeP90Part),
  },
];

/** Nothing where no run time was expected yet. */
const ifExpected = (status: SchedulerStatus, of: (status: SchedulerStatus) => number): Values =>
  status.runsExpected === 0n ? [] : [[{}, of(status)]];

/** The scheduler's own figures; while it cannot be asked only `fastgpu_scheduler_up` 0 is there. */
export function addSchedulerMetrics(
  registry: Registry,
  { scheduler, clock }: { readonly scheduler: Channel; readonly clock: Clock },
): void {
  const registers = [registry];
  const ask = rememberFor(freshMs, () =>
    createClient(StatusService, scheduler)
      .getSchedulerStatus({}, { timeoutMs, waitForReady: false })
      .catch(() => undefined),
  );
  new Gauge({
    name: "fastgpu_scheduler_up",
    help: "1 where the scheduler answers.",
    registers,
    async collect() {
      this.set((await ask()) === undefined ? 0 : 1);
    },
  });
  /** Shows what the newest answer says; without one the metric is left out. */
  const show = async (
    metric: { reset(): void; remove(labels: Readonly<Record<string, string>>): void },
    values: Metric["values"],
    put: (labels: Readonly<Record<string, string>>, value: number) => void,
  ): Promise<void> => {
    const status = await ask();
    const shown = status === undefined ? [] : values(status);
    metric.reset();
    for (const [labels, value] of shown) put(labels, value);
    // A reset leaves a metric without labels at 0, which would look like a figure.
    if (shown.length === 0) metric.remove({});
  };
  for (const { name, help, labels: labelNames = [], values } of gauges(clock)) {
    const metric: Gauge = new Gauge({
      ...{ name, help, registers, labelNames },
      collect: () => show(metric, values, (labels, value) => metric.set(labels, value)),
    });
  }
  for (const { name, help, labels: labelNames = [], values } of counters) {
    const metric: Counter = new Counter({
      ...{ name, help, registers, labelNames },
      collect: () => show(metric, values, (labels, value) => metric.inc(labels, value)),
    });
  }
}

const seconds = (duration: Duration | undefined): number =>
  duration === undefined ? 0 : Number(duration.seconds) + duration.nanos / 1e9;

/** Asks at most once within `ms` milliseconds. */
function rememberFor<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let askedMs = 0;
  return () => {
    const nowMs = performance.now();
    if (answer === undefined || nowMs - askedMs > ms) {
      askedMs = nowMs;
      answer = ask();
    }
    return answer;
  };
}

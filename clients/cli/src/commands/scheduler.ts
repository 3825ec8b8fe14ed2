import { durationMs, pastTimeMs, repeated, wholeNumber } from "../parse/quantities.ts";
import { addOutputOptions, type Group, type Runner } from "./define.ts";

const SIMULATE_EXAMPLES = `
Fleets:     "8x NVIDIA H200 x 16 nodes, racks of 4", several groups with ";" between them; an openb node
            list; or a JSON file: [{"name", "cpuMillis", "memoryMib", "gpus", "model", "rack", "mode"}, …].
            GPUs are given out whole unless a group says dmem_mps, dmem_timeslice, mps, timeslice, or
            "mig h100-80": "7x A10 x 4 nodes, timeslice; 8x H100 x 2 nodes, mig h100-80".
Workloads:  openb:FILE (a pod list with times), philly:FILE, or synthetic:KEY=VALUE,… with the keys tasks,
            tenants, weights (1:3), load (wanted over existing GPUs), diurnal, gangs, arrays, preemptible,
            failing, shares and instances (of the tasks of one GPU), median-minutes, habits (users of each tenant
            with run times of their own) and limit-hours (least max_runtime that everybody states).
Faults:     "usual", or mean times between faults: node=60d,rack=1y,gpu=300d,flap=30d,drain=30d, and
            node-repair, rack-repair and gpu-repair; or a file with a list of kind (node_loss, rack_loss,
            gpu_fault, disconnect, drain), at, node or rack, and lasts.
Queues:     queues: [{org: tenant-a, weight: 3, limitGpus: 64}]
            reservations: [{name: demo, org: tenant-b, gpus: 8, start: 2h, end: 4h}]

Examples:
  fastgpu scheduler simulate --nodes "8x H100 x 16 nodes, racks of 4" \\
    --workload synthetic:tasks=5000,weights=1:3,load=1.1 --faults usual --html report.html
  fastgpu scheduler simulate --nodes nodes.csv --workload openb:pods.csv --compare other.yaml
`;

const REPLAY_EXAMPLES = `
A replay needs neither a platform nor a database, and the very engine that recorded. Examples:
  fastgpu scheduler replay
  fastgpu scheduler replay --from 2026-01-31T08:00:00Z --policy other.yaml --html report.html
`;

const WHAT_IF_EXAMPLES = `
Examples:
  fastgpu scheduler what-if --add-nodes "4x 8 NVIDIA H200"             tasks with their start now and then
  fastgpu scheduler what-if --policy other.yaml --horizon 7d -o json
  fastgpu scheduler what-if --queue projects/PROJECT,weight=3 --remove-node NODE
  fastgpu scheduler what-if --queue "projects/PROJECT/users/key-…,limit=2,limit:NVIDIA H200=1"
`;

/** `scheduler`: how the fleet is planned, and what was decided. */
export function addSchedulerCommands(runner: Runner): void {
  const scheduler = runner.group(
    "scheduler",
    "how the fleet is planned: status, policy, replay, simulation",
  );
  const status = scheduler.remote(
    "status",
    "say how the scheduler is doing: who leads, plans, leases",
  );
  status.run(async () => ({ run: (await import("../run/scheduler-status.ts")).showStatus }));
  const policy = scheduler.group("policy", "the policy by which the fleet is planned");
  const show = policy.remote("show", "show the policy that is in force, and where it came from");
  show.run(async () => ({ run: (await import("../run/policy.ts")).showPolicy }));

  const check = policy.remote("check", "check a policy file, and change nothing");
  check.command.argument("<file>", "YAML, or - for standard input");
  check.run(async () => ({ run: (await import("../run/policy.ts")).checkPolicy }));

  const set = policy.remote("set", "set the policy; what runs goes on");
  set.command
    .argument("<file>", "YAML, or - for standard input; an empty one is the shipped policy")
    .option("--revision <number>", "only in place of this revision", wholeNumber(0, 1e15));
  set.run(async () => ({ run: (await import("../run/policy.ts")).setPolicy }));

  const replay = scheduler.local("replay", "plan recorded cycles again, and compare each decision");
  addOutputOptions(replay.command)
    .argument(
      "[files...]",
      "recordings, or directories of them; default: all of the data directory",
    )
    .option("--data <directory>", "data directory")
    .option(
      "--from <time>",
      "only cycles from this time on, for example 2026-01-31T08:00:00Z",
      pastTimeMs,
    )
    .option("--to <time>", "only cycles before this time", pastTimeMs)
    .option(
      "--policy <file>",
      'simulate the recorded load, under the recorded policy and this one; "default" is the shipped one',
    )
    .option("--price <dollars>", "a GPU-hour's, with --policy: 2.5, or H200=3.2,*=1; default 1")
    .option("--html <file>", "with --policy, also write a page with plots over time")
    .addHelpText("after", REPLAY_EXAMPLES);
  replay.run(async () => ({ run: (await import("../run/replay.ts")).replay }));
  addSimulateCommand(scheduler);
  addWhatIfCommand(scheduler);
}

function addWhatIfCommand(scheduler: Group): void {
  const whatIf = scheduler.remote(
    "what-if",
    "say what a policy, queue or fleet change would do to what waits; nothing is changed",
  );
  whatIf.command
    .option("--policy <file>", "this policy in place of the one in force, or - for standard input")
    .option("--add-nodes <nodes>", '"4x node-…" or "16x 8 NVIDIA H200"; repeatable', repeated)
    .option("--remove-node <node>", "it takes no new work, what runs goes on; repeatable", repeated)
    .option(
      "--queue <values>",
      'projects/PROJECT[/users/USER] or organizations/ORG, and values: ",weight=3,guaranteed=0,limit=8,limit:NVIDIA H200=4"; repeatable',
      repeated,
    )
    .option("--horizon <duration>", "how far to look ahead, at most 30d; default 24h", durationMs)
    .option("--consolidate", "also propose moves that would free whole nodes")
    .addHelpText("after", WHAT_IF_EXAMPLES);
  whatIf.run(async () => ({ run: (await import("../run/what-if.ts")).whatIf }));
}

function addSimulateCommand(scheduler: Group): void {
  const simulate = scheduler.local(
    "simulate",
    "play a fleet and a load in virtual time under the scheduler's own decisions",
  );
  addOutputOptions(simulate.command)
    .requiredOption("--nodes <fleet>", "the fleet: a line, an openb node list or a JSON file")
    .requiredOption("--workload <load>", "openb:FILE, philly:FILE or synthetic:SPEC")
    .option("--policy <file>", "policy; default: the shipped one")
    .option("--compare <file>", 'a second policy on the same load; "default" is the shipped one')
    .option("--faults [model]", "hardware that fails; without a value as it usually does")
    .option("--queues <file>", "weights, guarantees, limits and reservations, by name")
    .option("--seed <n>", "seed of load, faults and placement; default 1", wholeNumber(0, 2 ** 31))
    .option("--until <duration>", "cut off so long after the first arrival", durationMs)
    .option("--first <n>", "only so many tasks, the earliest", wholeNumber(1, 1e9))
    .option("--speed <n>", "arrivals so many times as fast", wholeNumber(1, 1e6))
    .option("--racks <n>", "nodes of an openb list that make a rack", wholeNumber(1, 1e6))
    .option("--sharing <mode>", "how an openb list's GPUs are given out; default timeslice")
    .option("--price <dollars>", "a GPU-hour's: 2.5, or H200=3.2,*=1; default 1")
    .option("--cycle <duration>", "least time between two plans; default: by the span", durationMs)
    .option("--json", "the same as --format json")
    .option("--html <file>", "also write a page with plots over time")
    .addHelpText("after", SIMULATE_EXAMPLES);
  simulate.run(async () => ({ run: (await import("../run/simulate.ts")).simulate }));
}

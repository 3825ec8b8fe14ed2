import type { AttemptId, TaskId } from "@fastgpu/domain/ids";
import { describe, expect, test } from "vitest";
import { withLease, withoutAttempt, withStopping } from "../explain/lease.ts";
import type { Plan, PlanNode, PlanState, PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { aNode, aQueue, aState, aTask, gpuId } from "../scene.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "../scheduling-policy.ts";

const hour = 3_600_000;
const minute = 60_000;

function planAt(
  nowMs: number,
  of: Parameters<typeof aState>[0],
  policy: SchedulingPolicy = defaultSchedulingPolicy,
): Plan {
  return createPlanner({ policy, rng: () => 0.5 }).plan(aState(of), nowMs);
}

/** Where each task that starts goes: nodes of its members, by rank. */
const places = (plan: Plan): Record<string, string[]> =>
  Object.fromEntries(
    plan.placements.map(({ task, members }) => [task.id, members.map(({ node }) => node)]),
  );

const reasonOf = (plan: Plan, id: string): string => {
  const reason = plan.reasons.get(`task-${id}` as TaskId);
  return `${reason?.reason}: ${reason?.message}`;
};

/** The node with a task running on GPUs at these positions since a time. */
function running(
  node: PlanNode,
  task: PlanTask,
  at: { gpus: readonly number[]; sinceMs?: number; member?: number },
): PlanNode {
  const gpus = at.gpus.map((position) => gpuId(node.name, position));
  const { member = 0, sinceMs = 0 } = at;
  return withLease(node, task, { gpus, nowMs: sinceMs, member });
}

const attemptOf = (id: string): AttemptId => `att-${id}` as AttemptId;

describe("a gang", () => {
  test("without a wish of models takes nodes that mix them, as a plain task does", () => {
    const mixed = (name: string): PlanNode => {
      const node = aNode(name, 2);
      const [first, second] = node.gpus as [PlanNode["gpus"][0], PlanNode["gpus"][0]];
      return { ...node, gpus: [first, { ...second, model: "other" }] };
    };
    const tasks = [aTask("t", { replicas: 2, demand: { gpuCount: 2 } })];
    const plan = planAt(0, { nodes: [mixed("a"), mixed("b")], tasks });
    expect(places(plan)).toEqual({ "task-t": ["node-a", "node-b"] });
  });

  const gang = (over: Parameters<typeof aTask>[1] = {}): PlanTask =>
    aTask("g", { replicas: 3, demand: { gpuCount: 2 }, ...over });

  test("starts whole, each member with its GPUs", () => {
    const plan = planAt(0, { nodes: [aNode("a", 4), aNode("b", 4)], tasks: [gang()] });
    expect(plan.placements).toHaveLength(1);
    const [{ members } = { members: [] }] = plan.placements;
    expect(members.map(({ gpus }) => gpus.length)).toEqual([2, 2, 2]);
    expect(new Set(members.flatMap(({ gpus }) => gpus)).size).toBe(6);
  });

  test("waits as a whole where one member lacks, and hears how many", () => {
    const busy = running(aNode("b", 4), aTask("r"), { gpus: [0, 1, 2] });
    const plan = planAt(0, { nodes: [aNode("a", 4), busy], tasks: [gang()] });
    expect(plan.placements).toEqual([]);
    expect(reasonOf(plan, "g")).toContain("NO_CAPACITY: 1 of 3 members find no place");
  });

  test("that no fleet of this size ever holds is told so", () => {
    const plan = planAt(0, { nodes: [aNode("a", 4)], tasks: [gang()] });
    expect(reasonOf(plan, "g")).toContain("UNSATISFIABLE: the fleet never holds all 3 members");
    expect(reasonOf(plan, "g")).toContain("at most 2");
  });

  const racks = [
    aNode("a1", 4, { topology: { rack: "r1", nvlink: "n1" } }),
    aNode("a2", 2, { topology: { rack: "r1", nvlink: "n2" } }),
    aNode("b1", 2, { topology: { rack: "r2", nvlink: "n3" } }),
    aNode("b2", 2, { topology: { rack: "r2", nvlink: "n4" } }),
  ];

  test.each([
    [{ within: "rack" }, ["node-a1", "node-a1", "node-a2"]],
    [{ within: "rack", spreadOver: "node" }, undefined],
    [{ spreadOver: "rack" }, undefined],
    [{ within: "node" }, undefined],
    [{ within: "nvlink" }, undefined],
  ] as const)("with topology %j goes to %j", (topology, expected) => {
    const plan = planAt(0, { nodes: racks, tasks: [gang({ topology })] });
    expect(places(plan)["task-g"]?.toSorted()).toEqual(expected);
    if (expected === undefined) expect(reasonOf(plan, "g")).toContain("UNSATISFIABLE");
  });

  test("of two spreads over racks", () => {
    const tasks = [gang({ replicas: 2, topology: { spreadOver: "rack" } })];
    const [one, two] = places(planAt(0, { nodes: racks, tasks }))["task-g"] ?? [];
    expect(new Set([one?.slice(0, 6), two?.slice(0, 6)])).toEqual(new Set(["node-a", "node-b"]));
  });

  test("counts with all its members against a quota", () => {
    const queues = [aQueue("a/x", { limitGpus: 5 })];
    const plan = planAt(0, { nodes: [aNode("a", 8)], tasks: [gang()], queues });
    expect(reasonOf(plan, "g")).toBe("QUOTA_EXCEEDED: the project holds 0 of at most 5 GPUs");
  });

  test("is placed where all nodes run its kind of task", () => {
    const other = aNode("a", 8, { runtimes: ["container"] });
    const plan = planAt(0, { nodes: [other, aNode("b", 6)], tasks: [gang()] });
    expect(places(plan)).toEqual({ "task-g": ["node-b", "node-b", "node-b"] });
  });
});

describe("preemption", () => {
  /** A task of tenant b that can be stopped and has run for hours, so that a's fresh tasks go before it. */
  const old = (id: string, over: Parameters<typeof aTask>[1] = {}): PlanTask =>
    aTask(id, { owner: "b/y", preemptible: true, attainedGpuMs: 100 * hour, ...over });

  const full = (): PlanNode => {
    let node = aNode("n", 4);
    for (const at of [0, 1, 2, 3]) node = running(node, old(`v${at}`), { gpus: [at] });
    return node;
  };

  test("stops who has least to lose, and reserves what it frees", () => {
    const nodes = [full()];
    const saved = nodes.map((node) => ({
      ...node,
      running: node.running.map((lease) =>
        lease.task === aTask("v2").id ? { ...lease, savedMs: 9 * hour } : lease,
      ),
    }));
    const plan = planAt(10 * hour, {
      nodes: saved,
      tasks: [aTask("t", { submittedMs: 10 * hour })],
    });
    expect(plan.placements).toEqual([]);
    expect(plan.preemptions).toMatchObject([
      {
        victim: "att-v2",
        victimTask: "task-v2",
        reservedFor: "task-t",
        gpus: [gpuId("n", 2)],
      },
    ]);
    expect(reasonOf(plan, "t")).toContain("NO_CAPACITY: its place is kept");
  });

  test("among those that lose as much stops who has had the most service", () => {
    let node = aNode("n", 3);
    for (const [at, hours] of [100, 900, 300].entries()) {
      node = running(node, old(`v${at}`, { attainedGpuMs: hours * hour }), { gpus: [at] });
    }
    const plan = planAt(10 * hour, { nodes: [node], tasks: [aTask("t")] });
    expect(plan.preemptions.map(({ victim }) => victim)).toEqual(["att-v1"]);
  });

  test("stops nobody where it is switched off", () => {
    const policy = { ...defaultSchedulingPolicy, preemption: { enabled: false } };
    const plan = planAt(10 * hour, { nodes: [full()], tasks: [aTask("t")] }, policy);
    expect(plan.preemptions).toEqual([]);
  });

  test.each([
    ["what can not be stopped", { preemptible: false }, 0],
    ["what has run for less than the minimum", {}, 10 * hour - 9 * minute],
    ["what was stopped as often as it has to bear", { preemptions: 50 }, 0],
  ] as const)("never stops %s", (_what, over, sinceMs) => {
    let node = aNode("n", 1);
    node = running(node, old("v", over), { gpus: [0], sinceMs });
    const plan = planAt(10 * hour, {
      nodes: [node],
      tasks: [aTask("t", { submittedMs: 9 * hour })],
    });
    expect(plan.preemptions).toEqual([]);
  });

  test("stops nobody for a task that would not start even then", () => {
    let node = aNode("n", 4);
    for (const at of [0, 1]) node = running(node, old(`v${at}`), { gpus: [at] });
    node = running(node, aTask("fixed", { owner: "b/y" }), { gpus: [2] });
    const tasks = [aTask("t", { demand: { gpuCount: 4 } })];
    expect(planAt(10 * hour, { nodes: [node], tasks }).preemptions).toEqual([]);
  });

  test("stops a gang whole, wherever its members run", () => {
    const gang = old("g", { replicas: 2 });
    const nodes = [
      running(aNode("a", 1), gang, { gpus: [0], member: 0 }),
      running(aNode("b", 1), gang, { gpus: [0], member: 1 }),
      running(aNode("c", 2), aTask("fixed", { owner: "b/y" }), { gpus: [0, 1] }),
    ];
    const plan = planAt(10 * hour, { nodes, tasks: [aTask("t", { replicas: 2 })] });
    expect(plan.preemptions.map(({ victim }) => victim)).toEqual(["att-g"]);
  });

  test("of several victims takes no more than it needs", () => {
    const big = old("big");
    let node = aNode("n", 4);
    node = running(node, big, { gpus: [0, 1] });
    node = running(node, old("s1"), { gpus: [2] });
    node = running(node, old("s2"), { gpus: [3] });
    const tasks = [aTask("t", { demand: { gpuCount: 2 } })];
    const { preemptions } = planAt(10 * hour, { nodes: [node], tasks });
    const freed = preemptions.flatMap(({ gpus }) => gpus);
    expect(freed).toHaveLength(2);
  });

  test("spares who has queued longest of all for days, and nobody else for that", () => {
    let node = aNode("n", 2);
    for (const at of [0, 1]) {
      // Both have queued for more than 72 hours before this start.
      const task = old(`v${at}`, { submittedMs: at * 10 * hour });
      node = running(node, task, { gpus: [at], sinceMs: 200 * hour });
    }
    const tasks = ["t", "u"].map((id) => aTask(id, { submittedMs: 201 * hour }));
    const plan = planAt(201 * hour, { nodes: [node], tasks });
    expect(plan.preemptions.map(({ victim }) => victim)).toEqual(["att-v1"]);
  });

  test("looks for other victims where those who lose least would claim their place back", () => {
    // Each of three organisations is due three of nine GPUs; b has two, with little service, and c has seven.
    let node = aNode("n", 9);
    for (const at of [0, 1]) {
      node = running(node, old(`b${at}`, { attainedGpuMs: 20 * hour }), { gpus: [at] });
    }
    const saved = node.running.map((lease) => ({ ...lease, savedMs: 10 * hour - 1 }));
    node = { ...node, running: saved };
    for (const at of [2, 3, 4, 5, 6, 7, 8]) {
      node = running(node, old(`c${at}`, { owner: "c/z" }), { gpus: [at] });
    }
    const more = old("more", { attainedGpuMs: 9_000 * hour });
    const tasks = ["t", "u", "w"].map((id) =>
      aTask(id, { preemptible: true, attainedGpuMs: 40 * hour, submittedMs: 9 * hour }),
    );
    const { preemptions } = planAt(10 * hour, { nodes: [node], tasks: [...tasks, more] });
    expect(preemptions.map(({ victim }) => victim.slice(0, 5))).toEqual([
      "att-c",
      "att-c",
      "att-c",
    ]);
  });

  test("waits for what stops already, and stops nobody more", () => {
    const node = full();
    const stopping = withStopping(node, attemptOf("v1"), {
      endsByMs: 10 * hour + 5_000,
      gpus: [],
      reservedFor: "task-none" as TaskId,
    });
    const plan = planAt(10 * hour, { nodes: [stopping], tasks: [aTask("t")] });
    expect(plan.preemptions).toEqual([]);
    expect(reasonOf(plan, "t")).toContain("its place is kept");
  });
});

describe("what is reserved for a task", () => {
  const preemptor = aTask("p", { demand: { gpuCount: 2 }, submittedMs: 5 });
  const victim = aTask("v", { owner: "b/y", preemptible: true, attainedGpuMs: 100 * hour });
  const reserved = (): PlanNode => {
    const node = running(aNode("n", 4), victim, { gpus: [0, 1] });
    return withStopping(node, attemptOf("v"), {
      endsByMs: hour,
      gpus: [gpuId("n", 0), gpuId("n", 1)],
      reservedFor: preemptor.id,
    });
  };
  const rival = (id: string, gpuCount: number): PlanTask => aTask(id, { demand: { gpuCount } });

  test("goes to it as soon as all of it is free", () => {
    const freed = withoutAttempt(reserved(), attemptOf("v"));
    const plan = planAt(2 * hour, { nodes: [freed], tasks: [preemptor] });
    expect(places(plan)).toEqual({ "task-p": ["node-n"] });
  });

  test("is out of sight for others, while it stops and after", () => {
    for (const node of [reserved(), withoutAttempt(reserved(), attemptOf("v"))]) {
      const plan = planAt(2 * hour, { nodes: [node], tasks: [rival("r", 3)] });
      expect(plan.placements).toEqual([]);
    }
  });

  test("is not its only place: what is free elsewhere will do at once", () => {
    const plan = planAt(hour / 2, { nodes: [reserved()], tasks: [preemptor] });
    expect(places(plan)).toEqual({ "task-p": ["node-n"] });
    expect(plan.placements[0]?.members[0]?.gpus).toEqual([gpuId("n", 2), gpuId("n", 3)]);
  });

  test("keeps the free GPUs beside it that the task needs as well", () => {
    const wide = { ...preemptor, demand: { ...preemptor.demand, gpuCount: 4 } };
    const tasks = [wide, rival("r", 1)];
    const plan = planAt(hour / 2, { nodes: [reserved()], tasks });
    expect(plan.placements).toEqual([]);
    expect(plan.preemptions).toEqual([]);
    expect(reasonOf(plan, "p")).toContain("its place is kept");
  });
});

describe("backfill", () => {
  const long = (id: string, over: Parameters<typeof aTask>[1] = {}): PlanTask =>
    aTask(id, { maxRuntimeMs: 4 * hour, ...over });
  /** Two of four GPUs are busy until 3 h. */
  const node = (): PlanNode =>
    running(aNode("n", 4), aTask("r", { maxRuntimeMs: 3 * hour }), { gpus: [0, 1] });
  const head = long("head", { demand: { gpuCount: 3 } });

  test("reserves the head's start for when enough has ended, and promises it once that is near", () => {
    const far = planAt(hour, { nodes: [node()], tasks: [head] });
    expect([...far.starts]).toEqual([]);
    expect([...far.expected]).toEqual([["task-head", 3 * hour]]);
    const near = planAt(2 * hour, { nodes: [node()], tasks: [head] });
    expect([...near.starts]).toEqual([["task-head", 3 * hour]]);
    expect([...near.expected]).toEqual([]);
  });

  test("promises it however far it is to whom has queued for long", () => {
    const old = { ...head, submittedMs: -24 * hour };
    const plan = planAt(hour, { nodes: [node()], tasks: [old] });
    expect([...plan.starts]).toEqual([["task-head", 3 * hour]]);
  });

  test("lets pass what ends before it, or fits beside it, and nothing else", () => {
    const tasks = [
      head,
      aTask("short", { submittedMs: 1, maxRuntimeMs: hour, demand: { gpuCount: 1 } }),
      long("beside", { submittedMs: 2 }),
      long("late", { submittedMs: 3 }),
    ];
    const plan = planAt(hour, { nodes: [node()], tasks });
    expect(Object.keys(places(plan)).toSorted()).toEqual(["task-beside", "task-short"]);
  });

  describe("with run times that are known", () => {
    const day = 24 * hour;
    const runTimes = (owner: string, p50Ms: number, p90Ms: number) => ({
      id: `proj-${owner}`,
      p50Ms,
      p90Ms,
    });
    /** Two of four GPUs are held by a task that may run for a day, as everybody may. */
    const held = (): PlanNode =>
      running(aNode("n", 4), aTask("r", { owner: "b/y", maxRuntimeMs: day }), { gpus: [0, 1] });
    const wide = aTask("head", { maxRuntimeMs: day, demand: { gpuCount: 4 } });
    const behind = aTask("behind", { submittedMs: 1, owner: "c/z", maxRuntimeMs: day });
    const tasks = [wide, behind];
    const known = [runTimes("y", 2 * hour, 4 * hour), runTimes("z", 10 * minute, 50 * minute)];

    test("lets pass what most likely ends before the head is expected to start", () => {
      const plan = planAt(hour, { nodes: [held()], tasks, runTimes: known });
      expect([...plan.expected]).toEqual([["task-head", 2 * hour]]);
      expect(Object.keys(places(plan))).toEqual(["task-behind"]);
    });

    test("nothing passes that takes longer in one case of ten, or of which nothing is known", () => {
      for (const of of [[known[0]!, runTimes("z", 10 * minute, 61 * minute)], [known[0]!]]) {
        const plan = planAt(hour, { nodes: [held()], tasks, runTimes: of });
        expect(places(plan)).toEqual({});
      }
    });

    test("who outlasts half of its like is expected to end with nine in ten, then after twice that", () => {
      for (const [atHours, expected] of [
        [2, 4],
        [3.9, 4],
        [4, 8],
        [9, 16],
      ] as const) {
        const plan = planAt(atHours * hour, { nodes: [held()], tasks: [wide], runTimes: known });
        expect([...plan.expected]).toEqual([["task-head", expected * hour]]);
      }
    });

    test("a promise rests on none of it: what may run for longer does not go before it", () => {
      const plan = planAt(23.5 * hour, { nodes: [held()], tasks, runTimes: known });
      expect([...plan.starts]).toEqual([["task-head", day]]);
      expect(places(plan)).toEqual({});
    });

    test("is as without them where they are switched off", () => {
      const { backfill } = defaultSchedulingPolicy;
      const policy = { ...defaultSchedulingPolicy, backfill: { ...backfill, predict: false } };
      const plan = planAt(hour, { nodes: [held()], tasks, runTimes: known }, policy);
      expect([...plan.starts]).toEqual([["task-head", day]]);
      expect(places(plan)).toEqual({});
    });

    test("an array's elements are not predicted, nor when its leases end", () => {
      const array = { ...behind, array: { pending: 1, leasesLeft: 1 } };
      const one = planAt(hour, { nodes: [held()], tasks: [wide, array], runTimes: known });
      expect(places(one)).toEqual({});
      const [lease] = held().running;
      const nodes = [{ ...held(), running: [{ ...lease!, turns: 1 }] }];
      const two = planAt(hour, { nodes, tasks: [wide], runTimes: known });
      expect([...two.expected]).toEqual([["task-head", day]]);
    });
  });

  test("of one pool of GPUs says nothing about another", () => {
    const other = aNode("o", 1, { model: "H100" });
    const tasks = [
      { ...head, demand: { ...head.demand, gpuModels: ["A100"] } },
      long("h", { submittedMs: 1, demand: { gpuModels: ["H100"] } }),
    ];
    expect(places(planAt(hour, { nodes: [node(), other], tasks }))).toEqual({
      "task-h": ["node-o"],
    });
  });

  test("is left out where it is switched off", () => {
    const { backfill } = defaultSchedulingPolicy;
    const policy = { ...defaultSchedulingPolicy, backfill: { ...backfill, enabled: false } };
    const tasks = [head, long("one", { submittedMs: 1 }), long("two", { submittedMs: 2 })];
    const plan = planAt(hour, { nodes: [node()], tasks }, policy);
    expect(Object.keys(places(plan)).toSorted()).toEqual(["task-one", "task-two"]);
  });
});

describe("a reservation", () => {
  const reservation = (over: Partial<PlanState["reservations"][number]> = {}) => ({
    id: "r1",
    org: aTask("t").org,
    project: undefined,
    gpus: 3,
    models: [] as string[],
    startMs: 10 * hour,
    endMs: 20 * hour,
    ...over,
  });
  const of = (owner: string, id: string, hours: number): PlanTask =>
    aTask(id, { owner, maxRuntimeMs: hours * hour });

  test.each([
    ["what may outlast its beginning gets only the rest", "b/y", 0, 12, 1],
    ["what ends before it may have everything", "b/y", 0, 9, 4],
    ["its owner may have everything", "a/x", 0, 12, 4],
    ["while it lasts others get only the rest", "b/y", 11, 1, 1],
    ["while it lasts its owner may have everything", "a/x", 11, 1, 4],
    ["once it is over everybody may", "b/y", 20, 12, 4],
  ] as const)("%s", (_what, owner, nowHours, hours, expected) => {
    const tasks = Array.from({ length: 6 }, (_, at) => of(owner, `t${at}`, hours));
    const state = { nodes: [aNode("n", 4)], tasks, reservations: [reservation()] };
    const plan = planAt(nowHours * hour, state);
    expect(plan.placements).toHaveLength(expected);
    if (expected < 4) expect(reasonOf(plan, "t5")).toContain("reserved for a time");
  });

  test("of one model leaves the others alone", () => {
    const nodes = [aNode("n", 4), aNode("m", 2, { model: "H100" })];
    const tasks = Array.from({ length: 8 }, (_, at) => of("b/y", `t${at}`, 12));
    const state = { nodes, tasks, reservations: [reservation({ models: ["A100"] })] };
    expect(planAt(0, state).placements).toHaveLength(3);
  });

  test("counts what ends before its beginning as free then", () => {
    const node = running(aNode("n", 4), of("b/y", "r", 5), { gpus: [0, 1, 2] });
    const state = { nodes: [node], tasks: [of("b/y", "t", 12)], reservations: [reservation()] };
    expect(planAt(0, state).placements).toHaveLength(1);
  });
});

describe("limits and guarantees of one model", () => {
  const nodes = [aNode("a", 4, { model: "A100" }), aNode("h", 4, { model: "H100" })];
  const many = (owner: string, count: number, models: string[]): PlanTask[] =>
    Array.from({ length: count }, (_, at) =>
      aTask(`${owner.replace("/", "")}${at}`, { owner, demand: { gpuModels: models } }),
    );
  const limit = (model: string, limitGpus: number) => ({
    models: { [model]: { guaranteedGpus: 0, limitGpus } },
  });

  test("a limit of one model leaves the other", () => {
    const queues = [aQueue("a", limit("H100", 1))];
    const plan = planAt(0, { nodes, tasks: many("a/x", 8, []), queues });
    const models = plan.placements.map(({ members }) => members[0]!.node);
    expect(models.filter((node) => node === nodes[1]?.id)).toHaveLength(1);
    expect(models.filter((node) => node === nodes[0]?.id)).toHaveLength(4);
  });

  test("who is stopped by it is told of which model", () => {
    const queues = [aQueue("a/x", limit("H100", 2))];
    const plan = planAt(0, { nodes, tasks: many("a/x", 3, ["H100"]), queues });
    expect(reasonOf(plan, "ax2")).toBe(
      "QUOTA_EXCEEDED: the project holds 2 of at most 2 H100 GPUs",
    );
  });

  test("a user's limit counts within the project", () => {
    const queues = [aQueue("a/x/eve", { limitGpus: 2 })];
    const tasks = [...many("a/x/eve", 4, []), ...many("a/x/bob", 8, [])];
    const plan = planAt(0, { nodes, tasks, queues });
    const users = plan.placements.map(({ task }) => task.user);
    expect(users.filter((user) => user === "eve")).toHaveLength(2);
    expect(users.filter((user) => user === "bob")).toHaveLength(6);
  });

  test("what was borrowed of a model is reclaimed", () => {
    let node = nodes[1]!;
    for (const at of [0, 1, 2, 3]) {
      const task = aTask(`v${at}`, { owner: "b/y", preemptible: true });
      node = running(node, task, { gpus: [at] });
    }
    const guarantee = { models: { H100: { guaranteedGpus: 2, limitGpus: undefined } } };
    const tasks = many("a/x", 4, ["H100"]);
    const queues = [aQueue("a", guarantee), aQueue("b", { weight: 1_000 })];
    const plan = planAt(hour, { nodes: [nodes[0]!, node], tasks, queues });
    expect(plan.preemptions).toHaveLength(2);
  });

  test("what is guaranteed of a model is not taken", () => {
    let node = nodes[1]!;
    for (const at of [0, 1, 2, 3]) {
      const task = aTask(`v${at}`, { owner: "b/y", preemptible: true, attainedGpuMs: 1e12 });
      node = running(node, task, { gpus: [at] });
    }
    const guarantee = { models: { H100: { guaranteedGpus: 3, limitGpus: undefined } } };
    const tasks = many("a/x", 4, ["H100"]);
    const plan = planAt(hour, { nodes: [node], tasks, queues: [aQueue("b", guarantee)] });
    expect(plan.preemptions).toHaveLength(1);
  });
});

describe("ranks by history", () => {
  const wait = (id: string): PlanTask =>
    aTask(id, { preemptible: true, attainedGpuMs: 10 * hour, submittedMs: id === "a" ? 0 : 1 });
  const tasks = ["a", "b"].map(wait);
  const nodes = [aNode("n", 1)];
  const ranks = [
    { id: tasks[0]!.id, rankMs: 40 * hour },
    { id: tasks[1]!.id, rankMs: hour },
  ];

  test("put who is likely to end soon before who has had as much", () => {
    expect(places(planAt(0, { nodes, tasks }))).toEqual({ "task-a": ["node-n"] });
    expect(places(planAt(0, { nodes, tasks, ranks }))).toEqual({ "task-b": ["node-n"] });
  });

  test("say who is stopped", () => {
    const node = ["a", "b"].reduce(
      (on, id, at) => running(on, wait(id), { gpus: [at] }),
      aNode("n", 2),
    );
    const urgent = [aTask("t", { submittedMs: 9 * hour })];
    const stopped = (more: Partial<PlanState>) =>
      planAt(10 * hour, { nodes: [node], tasks: urgent, ...more }).preemptions.map(
        ({ victimTask }) => victimTask,
      );
    expect(stopped({ ranks })).toEqual([tasks[0]!.id]);
    expect(
      stopped({ ranks: ranks.map(({ id }, at) => ({ id, rankMs: ranks[1 - at]!.rankMs })) }),
    ).toEqual([tasks[1]!.id]);
  });

  test("count for nothing where their bound is 0", () => {
    const { order } = defaultSchedulingPolicy;
    const policy = { ...defaultSchedulingPolicy, order: { ...order, historyBoundMd: 0 } };
    expect(places(planAt(0, { nodes, tasks, ranks }, policy))).toEqual({ "task-a": ["node-n"] });
  });
});

describe("past service", () => {
  const usage = [
    { org: aTask("t").org, project: aTask("t").project, user: "", gpuMs: 4 * 24 * hour },
    {
      org: aTask("u", { owner: "b/y" }).org,
      project: aTask("u", { owner: "b/y" }).project,
      user: "",
      gpuMs: 0,
    },
  ];
  const tasks = ["a/x", "b/y"].flatMap((owner) =>
    Array.from({ length: 8 }, (_, at) => aTask(`${owner[0]}${at}`, { owner })),
  );

  test("counts: who had more gets less for a while", () => {
    const count = (plan: Plan): number =>
      plan.placements.filter(({ task }) => task.org === aTask("t").org).length;
    expect(count(planAt(0, { nodes: [aNode("n", 8)], tasks }))).toBe(4);
    const less = count(planAt(0, { nodes: [aNode("n", 8)], tasks, usage }));
    expect(less).toBeLessThan(4);
    expect(less).toBeGreaterThan(0);
  });

  test("does not count where its weight is 0", () => {
    const { usage: shipped } = defaultSchedulingPolicy;
    const policy = { ...defaultSchedulingPolicy, usage: { ...shipped, weightMd: 0 } };
    const plan = planAt(0, { nodes: [aNode("n", 8)], tasks, usage }, policy);
    expect(plan.placements.filter(({ task }) => task.org === aTask("t").org)).toHaveLength(4);
  });
});

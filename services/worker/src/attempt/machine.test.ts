import { attemptTransitions } from "@fastgpu/domain/states";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type EndFacts, classify, isHardwareXid, judgeEnd } from "./classify.ts";
import { type Life, type LifeEvent, nothingKept, step } from "./machine.ts";
import type { Outcome } from "../runtime/port.ts";

const request = { reason: "cancelled", signal: "SIGTERM", graceMs: 10 } as const;
const end = {
  exitClass: "ok",
  exitCode: 0,
  message: "",
  goneBootMs: 5,
  elements: [],
} as const;

const anyEvent: fc.Arbitrary<LifeEvent> = fc.constantFrom<LifeEvent>(
  { kind: "take" },
  { kind: "refused", end: { ...end, exitClass: "image" } },
  { kind: "running", isolation: "x" },
  { kind: "stop", request, nowBootMs: 1 },
  { kind: "delivered" },
  { kind: "exited", end },
  { kind: "kept", kept: nothingKept },
  { kind: "keepFailed", message: "m" },
);

test("whatever comes, in whatever order, states follow the declared graph and the end is reported once", () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 30 }), (events) => {
      let life: Life = { phase: "LEASED" };
      let ends = 0;
      let starts = 0;
      for (const event of events) {
        const next = step(life, event);
        // A start that exits at once passes RUNNING in one step; its report is among the effects.
        const passed = next.effects.some((e) => e.do === "reportRunning")
          ? (["RUNNING", next.life.phase] as const)
          : ([next.life.phase] as const);
        let from: Life["phase"] = life.phase;
        for (const to of passed) {
          if (to !== from) expect(attemptTransitions[from]).toContain(to);
          from = to;
        }
        ends += next.effects.filter((e) => e.do === "reportEnded").length;
        starts += next.effects.filter((e) => e.do === "start").length;
        life = next.life;
      }
      expect(ends).toBe(life.phase === "ENDED" ? 1 : 0);
      expect(starts).toBeLessThanOrEqual(1);
    }),
  );
});

const run = (events: LifeEvent[]): Life =>
  events.reduce<Life>((life, event) => step(life, event).life, { phase: "LEASED" });

test("lost outputs spoil only a good end", () => {
  const start: LifeEvent[] = [{ kind: "take" }, { kind: "running", isolation: "" }];
  const good = run([...start, { kind: "exited", end }, { kind: "keepFailed", message: "full" }]);
  expect(good).toMatchObject({ phase: "ENDED", end: { exitClass: "output_failed" } });
  const bad = { ...end, exitClass: "user_exit" } as const;
  const kept = run([...start, { kind: "exited", end: bad }, { kind: "keepFailed", message: "x" }]);
  expect(kept).toMatchObject({ end: { exitClass: "user_exit" } });
});

test("a stop that comes during the start is delivered right after it", () => {
  const starting = run([{ kind: "take" }, { kind: "stop", request, nowBootMs: 1 }]);
  const next = step(starting, { kind: "running", isolation: "x" });
  expect(next.life.phase).toBe("STOPPING");
  expect(next.effects.at(-1)).toEqual({ do: "stop", request });
});

const outcome: Outcome = {
  cause: "exit",
  exitCode: 1,
  oom: false,
  stopReason: undefined,
  message: "",
  endedBootMs: 1,
  elements: undefined,
};
const facts = (more: Partial<Outcome>, rest: Partial<EndFacts> = {}): EndFacts => ({
  outcome: { ...outcome, ...more },
  errorTail: "",
  hasGpus: true,
  faultXid: undefined,
  ...rest,
});

test.each([
  [{ exitCode: 0 }, {}, "ok"],
  [{}, {}, "user_exit"],
  [{ exitCode: 137 }, {}, "user_exit"],
  [{ exitCode: 137, oom: true }, {}, "oom_host"],
  [{}, { errorTail: "RuntimeError: CUDA out of memory. Tried to" }, "oom_gpu"],
  [{}, { errorTail: "CUDA out of memory", hasGpus: false }, "user_exit"],
  [{}, { faultXid: 79 }, "gpu_fault"],
  [{ cause: "stop", stopReason: "preempted", exitCode: 0 }, {}, "preempted"],
  [{ cause: "timeout", exitCode: 143 }, {}, "timeout"],
  [{ cause: "lease" }, {}, "node_lost"],
  [{ cause: "lost", exitCode: undefined }, {}, "node_lost"],
  [{ cause: "start" }, {}, "start_failed"],
] as const)("an outcome %o with %o is %s", (more, rest, expected) => {
  expect(classify(facts(more, rest))).toBe(expected);
});

test("elements by class are exactly the leased indexes", () => {
  const leased = [[0, 10]] as const;
  const elements = { ok: [[0, 3]], userExit: [[4, 5]], oom: [], timeout: [] } as const;
  const judged = judgeEnd(facts({ cause: "stop", stopReason: "cancelled", elements }), leased);
  expect(judged.exitClass).toBe("cancelled");
  expect(judged.elements).toEqual([
    { exitClass: "ok", ranges: [[0, 3]] },
    { exitClass: "user_exit", ranges: [[4, 5]] },
    {
      exitClass: "cancelled",
      ranges: [
        [3, 4],
        [5, 10],
      ],
    },
  ]);
});

test("an XID of the program is not the hardware's", () => {
  expect(isHardwareXid(79)).toBe(true);
  expect(isHardwareXid(13)).toBe(false);
  expect(isHardwareXid(31)).toBe(false);
});

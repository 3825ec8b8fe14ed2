import { skuOf } from "@fastgpu/ledger/sku";
import { boundsOf, explainTask, type ExplainInput } from "@fastgpu/scheduling/explain/explain";
import {
  forecastStart,
  longest as asLongAsTheyMay,
  type Lengths,
} from "@fastgpu/scheduling/explain/future";
import { Survey } from "@fastgpu/scheduling/explain/survey";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { suits } from "../spec/suits.ts";
import { expectedLengths } from "./history.ts";
import type { AnswerTo, Kind, PlayedOut, Question, Quoted, Told } from "./question.ts";
import type { Snapshot } from "./snapshot.ts";
import { playBoth } from "./what-if.ts";

/** Ties are broken the same way each time, so that two questions get one answer. */
const rng = (): number => 0.5;

/** A victim's GPUs are looked at again so long after its end, in milliseconds. */
const freeingMs = 5_000;

/** The time for one answer. */
export interface AnswerTime {
  /** Whether no more than a part of it is used up, and nobody has called it off. */
  goOn(part: number): boolean;
  /** The part of it that is used up. */
  spent(): number;
}

/** Works an answer out: pure. `time` is asked again and again: once it is up, the rest stays unknown. */
export function answer<Q extends Question>(
  question: Q,
  snapshot: Snapshot,
  time: AnswerTime,
): AnswerTo<Q>;
export function answer(
  question: Question,
  snapshot: Snapshot,
  time: AnswerTime,
): Told | Quoted | PlayedOut {
  const { nowMs } = question;
  if (question.kind === "whatIf") {
    const { change, untilMs } = question;
    const lengths = expectedLengths(snapshot.history, longestOf(snapshot), nowMs);
    return playBoth({ snapshot, change, nowMs, untilMs, lengths, rng, goOn: () => time.goOn(1) });
  }
  const { state, policy } = snapshot;
  const inLine = state.tasks.find(({ id }) => id === question.task.id);
  const waiting = inLine ?? snapshot.short.get(question.task.id);
  const task = question.kind === "explain" ? (waiting ?? question.task) : question.task;
  const own = question.kind === "explain" && inLine !== undefined;
  const shared = own ? sharedOf(snapshot, { nowMs, spent: time.spent }) : undefined;
  const longest = shared?.longest ?? longestOf(snapshot);
  const names =
    question.kind === "quote"
      ? new Map([...snapshot.history.names, [task.id, question.name] as const])
      : snapshot.history.names;
  const history = { ...snapshot.history, names };
  const expected = shared?.expected ?? expectedLengths(history, longest, nowMs);
  const { projects } = question;
  const { goOn, spent } = time;
  const others = state.tasks.filter(({ id }) => id !== task.id);
  const whole = { ...state, tasks: [...others, task] };
  const survey = shared?.survey ?? new Survey({ state: whole, policy, nowMs, rng, spent });
  const input = {
    ...{ state, task, nowMs, longest, expected, projects, policy, rng, goOn, spent, survey },
  };
  const told = explainTask(input);
  const name = names.get(task.id) ?? "";
  const { project, demand } = task;
  const made = history.predict({ project, gpus: demand.gpuCount, name });
  const rests = made && {
    runs: Math.round(made.runs),
    p50Ms: made.p50Ms,
    meanFactorOff: history.meanFactorOff,
  };
  const gpus =
    told.forecast.kind === "starts"
      ? told.forecast.members.flatMap((member) =>
          member.gpus.flatMap((id) => snapshot.gpus.get(id) ?? []),
        )
      : undefined;
  const common = { told, task, gpus, rests };
  return question.kind === "explain"
    ? { kind: "explain", ...common }
    : { kind: "quote", ...common, kinds: kindsOf(input, snapshot) };
}

/** What answers about tasks in line have in common on one snapshot. */
interface Shared {
  readonly survey: Survey;
  readonly longest: Lengths;
  readonly expected: Lengths;
}

/** By snapshot: as long as the state is the same, so is what is worked out of all of it. */
const known = new WeakMap<Snapshot, Shared>();

function sharedOf(snapshot: Snapshot, of: { nowMs: number; spent: () => number }): Shared {
  let shared = known.get(snapshot);
  if (shared === undefined) {
    const { state, policy, history } = snapshot;
    const longest = longestOf(snapshot);
    shared = {
      survey: new Survey({ state, policy, rng, ...of }),
      longest,
      expected: expectedLengths(history, longest, of.nowMs),
    };
    known.set(snapshot, shared);
  }
  return shared;
}

/** Every attempt lasts as long as it may, its grace included. */
function longestOf({ stopGraceMs }: Snapshot): Lengths {
  return {
    ...asLongAsTheyMay,
    stopMs: (lease) => (stopGraceMs.get(lease.attempt) ?? 0) + freeingMs,
  };
}

/** The kinds of GPU in the fleet that will do, with the start on each; a kind of which no node ever has enough is none. */
function kindsOf(input: Asked, snapshot: Snapshot): Kind[] {
  const { demand } = input.task;
  if (demand.gpuCount === 0) return [];
  const willDo = [...snapshot.gpus.values()].filter((gpu) => gpu.present && suits(gpu, demand));
  return [...Map.groupBy(willDo, skuOf)].flatMap(([sku, gpus]) => {
    const simulated = gpus[0]?.simulated ?? false;
    const gpuModels = [...new Set(gpus.map((gpu) => gpu.model))].toSorted();
    const forecast = forecastOn(input, { ...demand, gpuModels, simulatedOk: simulated });
    return forecast.kind === "never" ? [] : [{ sku, gpuModels, simulated, forecast }];
  });
}

type Asked = ExplainInput & { readonly survey: Survey };

function forecastOn(input: Asked, demand: PlanTask["demand"]) {
  const { task, nowMs, policy, longest: lengths } = input;
  const narrowed = { ...task, demand };
  const others = input.state.tasks.filter(({ id }) => id !== task.id);
  const state = { ...input.state, tasks: [...others, narrowed] };
  const { rough, view, planPart: turnPart } = input.survey;
  const bounds = boundsOf({ ...input, turnPart }, 1, () => rough.latest(narrowed, lengths));
  const asked = { view, asked: task.id };
  return forecastStart({ state, nowMs, policy, rng, lengths, bounds, ...asked }, task.id);
}

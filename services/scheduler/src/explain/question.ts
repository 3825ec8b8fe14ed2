import type { NodeId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { Explanation } from "@fastgpu/scheduling/explain/explain";
import type { Forecast } from "@fastgpu/scheduling/explain/future";
import type { Outlook } from "@fastgpu/scheduling/explain/outlook";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import type { StoredGpu } from "../store/nodes.ts";
import type { Change } from "./what-if.ts";

/** Something to work out on a snapshot: plain data, so that another thread can. */
export type Question =
  | {
      readonly kind: "explain";
      /** Taken as it is in line where it is in line. */
      readonly task: PlanTask;
      /** Other projects that the caller could submit it in. */
      readonly projects: readonly ProjectId[];
      readonly nowMs: number;
    }
  | {
      readonly kind: "quote";
      readonly task: PlanTask;
      /** Other projects that the caller could submit it in. */
      readonly projects: readonly ProjectId[];
      /** Its name for people, by which run times are known. */
      readonly name: string;
      readonly nowMs: number;
    }
  | {
      readonly kind: "whatIf";
      readonly change: Change;
      readonly nowMs: number;
      readonly untilMs: number;
    };

/** Where a task stands, and on which GPUs it would run. */
export interface Told {
  readonly kind: "explain";
  readonly told: Explanation;
  /** The task as it was looked at. */
  readonly task: PlanTask;
  /** GPUs that it would get; undefined where there is no place. */
  readonly gpus: readonly StoredGpu[] | undefined;
  /** What the expected start rests on; undefined: no history. */
  readonly rests: Rests | undefined;
}

/** What a prediction rests on. */
export interface Rests {
  /** Runs like the task's, old ones counting less. */
  readonly runs: number;
  /** Half of them ended by then, in milliseconds. */
  readonly p50Ms: number;
  /** Mean factor by which such predictions were off; undefined: none was made yet. */
  readonly meanFactorOff: number | undefined;
}

/** One kind of GPU that would do. */
export interface Kind {
  readonly sku: string;
  readonly gpuModels: readonly string[];
  readonly simulated: boolean;
  readonly forecast: Forecast;
}

/** A task that is not submitted yet: where it would stand, and what would do for it. */
export interface Quoted extends Omit<Told, "kind"> {
  readonly kind: "quote";
  readonly kinds: readonly Kind[];
}

/** The answer to a question. */
export type AnswerTo<Q extends Question> = Q extends { kind: "explain" }
  ? Told
  : Q extends { kind: "quote" }
    ? Quoted
    : PlayedOut;

/** A move of a running task that would help to free a node. */
export interface PlayedMove {
  readonly task: TaskId;
  readonly project: ProjectId;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly gpus: number;
}

/** Two futures of what waits, as things are and with a change; or what the change names and nobody has. */
export type PlayedOut =
  | {
      readonly kind: "whatIf";
      readonly now: Outlook;
      readonly changed: Outlook;
      /** Everything that waits. */
      readonly tasks: readonly {
        readonly id: TaskId;
        readonly project: ProjectId;
        readonly gpus: number;
      }[];
      readonly moves: readonly PlayedMove[];
    }
  | { readonly kind: "unknown"; readonly resource: string };

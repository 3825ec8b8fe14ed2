import type { PlanQueue } from "@fastgpu/scheduling/plan";
import type { TaskRun } from "./task-run.ts";

/** A limit that was passed. */
export interface QuotaBreach {
  readonly queue: string;
  readonly limitGpus: number;
  readonly heldGpus: number;
}

interface Counted {
  readonly row: PlanQueue;
  /** In thousandths of GPUs. */
  held: number;
  readonly heldOf: Map<string, number>;
}

/** GPUs held by each queue that has a limit, counted apart from the planner so that they check it. */
export class QuotaCount {
  private readonly byKey = new Map<string, Counted>();

  constructor(queues: readonly PlanQueue[]) {
    for (const row of queues) {
      const limits = Object.values(row.models).some(({ limitGpus }) => limitGpus !== undefined);
      if (row.limitGpus === undefined && !limits) continue;
      this.byKey.set(keyOf(row.org, row.project, row.user), { row, held: 0, heldOf: new Map() });
    }
  }

  /** A task holds so many thousandths of GPUs of a model more, or fewer; answers the limit that this passes. */
  change(task: TaskRun, model: string, milli: number): QuotaBreach | undefined {
    if (this.byKey.size === 0 || milli === 0) return undefined;
    let breach: QuotaBreach | undefined;
    for (const key of keysOf(task)) {
      const counted = this.byKey.get(key);
      if (counted === undefined) continue;
      counted.held += milli;
      const heldOf = (counted.heldOf.get(model) ?? 0) + milli;
      counted.heldOf.set(model, heldOf);
      if (milli < 0) continue;
      const { limitGpus } = counted.row;
      if (limitGpus !== undefined && counted.held > limitGpus * 1000) {
        breach ??= { queue: key, limitGpus, heldGpus: counted.held / 1000 };
      }
      const ofModel = counted.row.models[model]?.limitGpus;
      if (ofModel !== undefined && heldOf > ofModel * 1000) {
        breach ??= { queue: `${key} ${model}`, limitGpus: ofModel, heldGpus: heldOf / 1000 };
      }
    }
    return breach;
  }
}

const keyOf = (org: string, project: string | undefined, user: string | undefined): string =>
  [org, project, user].filter((part) => part !== undefined).join(" ");

const keysOf = ({ org, project, spec }: TaskRun): readonly string[] => [
  keyOf(org, undefined, undefined),
  keyOf(org, project, undefined),
  keyOf(org, project, spec.user),
];

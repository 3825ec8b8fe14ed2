import type { ExitClass } from "@fastgpu/domain/states";
import type { PlanRunTimes } from "../plan.ts";
import { RunTimePredictor, type PredictionError } from "./predict.ts";

/** Ends that tell how long the like of a run lasts: it came to them by itself, or ran for as long as it may. */
export const endedByItself: ReadonlySet<ExitClass> = new Set(["ok", "user_exit", "timeout"]);

/** What tells runs that are alike. */
export interface RunKind {
  readonly project: string;
  /** The principal who submitted it; "" where unknown. */
  readonly user: string;
  /** GPUs of all members; of parts of GPUs their sum. */
  readonly gpus: number;
  /** Of one member, in thousandths of a core. */
  readonly cpuMillis: number;
  /** Of one member. */
  readonly memoryMib: number;
}

/**
 * Kinds of a run from close to wide: of the same user with the same needs, of the same width in the project, of the
 * project. Nobody's runs count for another project's.
 */
export function runKinds({
  project,
  user,
  gpus,
  cpuMillis,
  memoryMib,
}: RunKind): readonly string[] {
  const width = `${project}/${gpus}`;
  return [`${width}/${cpuMillis}/${memoryMib}/${user}`, width, project];
}

/** Kinds that are remembered, at most; about a kilobyte each. */
const maxKinds = 8_192;
/** A median that has moved by less than this part of itself is told as before: fewer changes for the planner. */
const alikePart = 0.03;

/** Run times by kind: learns from each run that ends by itself, and says what is known for the planner's state. */
export class RunTimes {
  private readonly predictor: RunTimePredictor;
  private readonly told = new Map<string, PlanRunTimes>();
  private list: readonly PlanRunTimes[] = [];
  private stale = false;

  constructor(of: { readonly maxKinds?: number } = {}) {
    this.predictor = new RunTimePredictor({ maxKeys: of.maxKinds ?? maxKinds });
  }

  /** Learns from a run. How good the prediction for it was is judged by what was known just before its end. */
  observe(kind: RunKind, runMs: number): void {
    const keys = runKinds(kind);
    const { forgotten } = this.predictor.observe(keys, runMs, this.predictor.predict(keys));
    for (const key of forgotten) this.stale = this.told.delete(key) || this.stale;
    for (const key of keys) {
      const made = this.predictor.predict([key]);
      if (made === undefined) continue;
      const before = this.told.get(key);
      const { p50Ms, p90Ms } = made;
      if (before?.p90Ms === p90Ms && Math.abs(before.p50Ms - p50Ms) < alikePart * p50Ms) continue;
      this.told.set(key, { id: key, p50Ms, p90Ms });
      this.stale = true;
    }
  }

  /** What is known, for the planner's state: the same list, and the same objects in it, until they change. */
  plan(): readonly PlanRunTimes[] {
    if (this.stale) this.list = [...this.told.values()];
    this.stale = false;
    return this.list;
  }

  /** How good the predictions have been so far. */
  error(): PredictionError {
    return this.predictor.error();
  }
}

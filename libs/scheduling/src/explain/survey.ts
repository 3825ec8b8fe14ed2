import type { TaskId } from "@fastgpu/domain/ids";
import type { Plan, PlanState, PlanTask, Rng } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { createQueueOrder } from "../queue-order.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { RoughStarts } from "./rough.ts";
import { LineView } from "./view.ts";

/**
 * What answers about several tasks of one state have in common, each part worked out when first needed: the next plan, the
 * places in line, rough starts. It is of the moment of the first answer.
 */
export class Survey {
  readonly nowMs: number;
  readonly rough: RoughStarts;
  private readonly of: ConstructorParameters<typeof Survey>[0];
  private seen: LineView | undefined;
  private next: Plan | undefined;
  /** Part of the time for an answer that the plan took; 0: not known. */
  planPart = 0;
  private asked: TaskId | undefined;
  private offered: ReadonlyMap<TaskId, number> | undefined;

  constructor(of: {
    readonly state: PlanState;
    readonly policy: SchedulingPolicy;
    readonly nowMs: number;
    readonly rng: Rng;
    /** Part of the time for the first answer that is used up. */
    readonly spent?: (() => number) | undefined;
  }) {
    this.of = of;
    this.nowMs = of.nowMs;
    this.rough = new RoughStarts(of);
  }

  /** What plans look at. */
  get view(): LineView {
    return (this.seen ??= new LineView(this.of.state));
  }

  /** The plan of the next cycle. */
  get plan(): Plan {
    const { state, policy, nowMs, rng, spent } = this.of;
    if (this.next === undefined) {
      const seen = this.view.of(state);
      const before = spent?.() ?? 0;
      this.next = createPlanner({ policy, rng, reasons: false }).plan(seen, nowMs);
      this.planPart = (spent?.() ?? 0) - before;
    }
    return this.next;
  }

  /**
   * A task's place in the order in which the planner would serve everything that waits, were there room for all of it;
   * what a limit stops goes after what it does not stop, by submit time.
   */
  positionOf(task: PlanTask): number {
    // Who asks about one task mostly asks about no other: only then the whole order is worth its time.
    const alone = this.offered === undefined && this.asked === undefined;
    this.asked = task.id;
    const soon = alone ? this.walk(task.id).get(task.id) : undefined;
    if (soon !== undefined) return soon;
    const offered = (this.offered ??= this.walk());
    const place = offered.get(task.id);
    if (place !== undefined) return place;
    const before = (each: PlanTask): boolean =>
      each.submittedMs < task.submittedMs ||
      (each.submittedMs === task.submittedMs && each.id < task.id);
    const rest = this.of.state.tasks.filter((each) => !offered.has(each.id) && before(each));
    return offered.size + rest.length + 1;
  }

  private walk(upTo?: TaskId): ReadonlyMap<TaskId, number> {
    const { state, policy, nowMs } = this.of;
    const offered = new Map<TaskId, number>();
    const offer = ({ id }: PlanTask): boolean => {
      if (!offered.has(id)) offered.set(id, offered.size + 1);
      return true;
    };
    createQueueOrder(state, policy).walk(nowMs, offer, { line: this.rough.line, upTo });
    return offered;
  }
}

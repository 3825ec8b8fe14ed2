import type { TaskId } from "@fastgpu/domain/ids";
import type { PlanState, PlanTask } from "../plan.ts";
import type { Line } from "../planning/line.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { Lengths } from "./future.ts";
import { Flow } from "./rough-flow.ts";
import { ghostOf, ghostWith, roughLine, type Ghost, type RoughLine } from "./rough-line.ts";

/**
 * By so much later than worked out a latest start is told: measured against forecasts that follow every plan, 19 in 20
 * start by then where nobody is stopped (docs/decisions/planning.md).
 */
const latestFactor = 1.67;

/** Rough starts of the tasks of one state as they are, each worked out once, and of one with changes. */
export class RoughStarts {
  private readonly of: {
    readonly state: PlanState;
    readonly policy: SchedulingPolicy;
    readonly nowMs: number;
  };
  private known: RoughLine | undefined;
  private readonly flows = new Map<Lengths, Known>();
  /** The last start of a task as it is that was told beside those of its changes. */
  private readonly told = new Map<Lengths, { readonly task: PlanTask; readonly atMs: number }>();

  constructor(of: RoughStarts["of"]) {
    this.of = of;
  }

  /** The line as a plan of all that waits would put it together. */
  get line(): Line {
    return this.whole().line;
  }

  /**
   * Starts of a task of the state as it is, and of what might be submitted in its place, each as if it alone stood in line:
   * all in one flow, up to the start as it is. Infinity: not by then, or not known.
   */
  instead(
    task: PlanTask,
    changed: readonly { readonly task: PlanTask }[],
    lengths: Lengths,
  ): { readonly asItIs: number; readonly changed: readonly number[] } {
    const own = ghostOf(this.whole(), task);
    if (own === undefined) return { asItIs: Infinity, changed: changed.map(() => Infinity) };
    const { line, ghosts, others } = this.ghosts(own, changed);
    const flow = new Flow({ line, lengths, absent: task.id, ghosts: [own, ...ghosts] });
    const starts = new Map<PlanTask, number>();
    const asItIs = (): number => starts.get(own.task) ?? Infinity;
    run(flow, { starts, ghosts: [own, ...ghosts], goOn: () => flow.presentMs <= asItIs() });
    if (starts.has(own.task)) this.told.set(lengths, { task, atMs: asItIs() });
    return { asItIs: asItIs(), changed: others.map((ghost) => startOf(starts, ghost)) };
  }

  /** Starts at the latest of what might be submitted in its place, as far as they are before its own. */
  latestInstead(
    task: PlanTask,
    changed: readonly { readonly task: PlanTask }[],
    lengths: Lengths,
  ): readonly number[] {
    const untilMs = this.start(task, lengths);
    const own = ghostOf(this.whole(), task);
    if (own === undefined) return changed.map(() => Infinity);
    const { line, ghosts, others } = this.ghosts(own, changed);
    const flow = new Flow({ line, lengths, absent: task.id, ghosts });
    const starts = new Map<PlanTask, number>();
    run(flow, { starts, ghosts, goOn: () => flow.presentMs <= untilMs });
    return others.map((ghost) => this.late(startOf(starts, ghost)));
  }

  /** Changed tasks as ghosts; of such as are nowhere in line undefined among `others`. */
  private ghosts(own: Ghost, changed: readonly { readonly task: PlanTask }[]) {
    const line = this.whole();
    const others = changed.map((each) => ghostWith(line, each.task, own.turns));
    return { line, others, ghosts: others.flatMap((ghost) => ghost ?? []) };
  }

  private whole(): RoughLine {
    return (this.known ??= roughLine(this.of));
  }

  /**
   * About when a task of the state starts, or one that waits in place of what has its id, where queues are others.
   * Infinity: what it waits for has no known end.
   */
  start(task: PlanTask, lengths: Lengths, over: Pick<Partial<PlanState>, "queues"> = {}): number {
    const line = this.whole();
    const slot = line.line.slots.get(task.id)?.[0];
    const asItIs = slot !== undefined && line.line.jobs.get(slot)?.task === task;
    if (!asItIs || over.queues !== undefined) {
      return new Known(new Flow({ line, lengths, queues: over.queues, target: task })).of(task.id);
    }
    const told = this.told.get(lengths);
    if (told?.task === task) return told.atMs;
    let known = this.flows.get(lengths);
    if (known === undefined)
      this.flows.set(lengths, (known = new Known(new Flow({ line, lengths }))));
    return known.of(task.id);
  }

  /** The same at the latest. */
  latest(task: PlanTask, lengths: Lengths, over: Pick<Partial<PlanState>, "queues"> = {}): number {
    return this.late(this.start(task, lengths, over));
  }

  private late(atMs: number): number {
    const { nowMs } = this.of;
    return nowMs + latestFactor * (atMs - nowMs);
  }
}

const startOf = (starts: ReadonlyMap<PlanTask, number>, ghost: Ghost | undefined): number =>
  (ghost && starts.get(ghost.task)) ?? Infinity;

/** Lets a flow go on until it has told the starts of these ghosts, or may not any more. */
function run(
  flow: Flow,
  of: {
    readonly starts: Map<PlanTask, number>;
    readonly ghosts: readonly Ghost[];
    readonly goOn: () => boolean;
  },
): void {
  const { starts, ghosts, goOn } = of;
  const asked = new Set(ghosts.map(({ task }) => task));
  while (starts.size < ghosts.length && goOn()) {
    const started = flow.next();
    if (started === undefined) return;
    if (asked.has(started.task)) starts.set(started.task, started.atMs);
  }
}

/** What a flow has told so far. */
class Known {
  private readonly flow: Flow;
  private readonly starts = new Map<TaskId, number>();

  constructor(flow: Flow) {
    this.flow = flow;
  }

  /** Goes on until a task has its time. */
  of(id: TaskId): number {
    for (;;) {
      const known = this.starts.get(id);
      if (known !== undefined) return known;
      const started = this.flow.next();
      if (started === undefined) return Infinity;
      // Of an array: its first lease.
      if (!this.starts.has(started.task.id)) this.starts.set(started.task.id, started.atMs);
    }
  }
}

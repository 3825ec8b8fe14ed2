import type { Plan, PlanState } from "../plan.ts";
import type { Learned } from "../planner.ts";
import { untimedOrder } from "../order/policy.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { ByteSource } from "./bytes.ts";
import { isIdentified, ListReader, ListWriter } from "./list.ts";
import { planned, type Planned } from "./planned.ts";
import { ValueReader, ValueWriter } from "./value.ts";

/** With what a planner's life began. */
export interface Beginning {
  readonly policy: SchedulingPolicy;
  /** Of its random numbers. */
  readonly seed: number;
  /** What it was given of an earlier life. */
  readonly learned: Learned | undefined;
}

/** One thing that a recording tells. Times in milliseconds. */
export type Frame =
  | { readonly kind: "beginning"; readonly beginning: Beginning }
  | {
      /** A cycle that planned: what it was given and what it decided. */
      readonly kind: "cycle";
      readonly nowMs: number;
      readonly state: PlanState;
      readonly planned: Planned;
    }
  | {
      /** A change of the state that came while nothing waited to be planned. */
      readonly kind: "change";
      readonly nowMs: number;
      readonly state: PlanState;
    }
  | {
      /** Another policy from the next cycle on. */
      readonly kind: "policy";
      readonly policy: SchedulingPolicy;
    };

/** Version of the frames' encoding; raised with every change of it. */
export const recordingFormat = 1;

const kinds = { cycle: 1, change: 2, policy: 3, beginning: 4 } as const;
/** How a part of the state is told. */
const parts = { kept: 0, value: 1, list: 2 } as const;

/**
 * Writes the frames of one planner's life. The first state is told whole, of each later one what has changed; whatever
 * fields the planner is given are written, so that none is forgotten. Trace contexts are left out: nothing is decided
 * by them.
 */
export class FrameWriter {
  private readonly values = new ValueWriter();
  private readonly lists = new Map<string, ListWriter>();
  private state: Readonly<Record<string, unknown>> = {};
  private nowMs = 0;

  /** The first frame. */
  beginning(beginning: Beginning): Uint8Array {
    this.values.sink.byte(kinds.beginning);
    this.values.write(beginning);
    return this.values.sink.take();
  }

  /** A cycle with its plan, or a change of the state without one. The state's objects must not change afterwards. */
  cycle(state: PlanState, nowMs: number, plan: Plan | undefined): Uint8Array {
    const { sink } = this.values;
    sink.byte(plan === undefined ? kinds.change : kinds.cycle);
    this.values.write(nowMs, this.nowMs);
    this.nowMs = nowMs;
    this.parts({ ...state });
    if (plan !== undefined) this.values.write(planned(plan));
    return sink.take();
  }

  /** Another policy. */
  policy(policy: SchedulingPolicy): Uint8Array {
    this.values.sink.byte(kinds.policy);
    this.values.write(policy);
    return this.values.sink.take();
  }

  private parts(state: Readonly<Record<string, unknown>>): void {
    const { sink } = this.values;
    const names = Object.keys(state);
    this.values.write(names, Object.keys(this.state));
    for (const name of names) {
      const value = state[name];
      const before = this.state[name];
      if (value === before && name in this.state) sink.byte(parts.kept);
      else if (isIdentified(value)) {
        sink.byte(parts.list);
        this.list(name).write(value);
      } else {
        sink.byte(parts.value);
        this.values.write(value, before);
      }
    }
    this.state = state;
  }

  private list(name: string): ListWriter {
    const known = this.lists.get(name);
    if (known !== undefined) return known;
    const made = new ListWriter(this.values);
    this.lists.set(name, made);
    return made;
  }
}

/** A policy with the parameters that it was written without: they change nothing then. */
function whole(
  policy: Partial<SchedulingPolicy> & Omit<SchedulingPolicy, "compaction">,
): SchedulingPolicy {
  const { compaction = { ...defaultSchedulingPolicy.compaction, enabled: false } } = policy;
  return { ...policy, compaction, order: { ...untimedOrder, ...policy.order } };
}

/** Reads the frames of one planner's life, in order. Throws RangeError for what no {@link FrameWriter} writes. */
export class FrameReader {
  private readonly values = new ValueReader();
  private readonly lists = new Map<string, ListReader>();
  private state: Readonly<Record<string, unknown>> = {};
  private nowMs = 0;

  read(bytes: Uint8Array): Frame {
    const source = new ByteSource(bytes);
    const kind = source.byte();
    // What is read has the form that the same engine once wrote; reading is where it gets its types back.
    if (kind === kinds.policy) {
      return { kind: "policy", policy: whole(this.values.read(source) as SchedulingPolicy) };
    }
    if (kind === kinds.beginning) {
      const beginning = this.values.read(source) as Beginning;
      return { kind: "beginning", beginning: { ...beginning, policy: whole(beginning.policy) } };
    }
    if (kind !== kinds.cycle && kind !== kinds.change) {
      throw new RangeError(`the recording has an unknown frame ${kind}`);
    }
    const nowMs = this.values.read(source, this.nowMs);
    if (typeof nowMs !== "number") throw new RangeError("the recording has a frame without a time");
    this.nowMs = nowMs;
    const state = this.parts(source) as unknown as PlanState;
    if (kind === kinds.change) return { kind: "change", nowMs, state };
    return { kind: "cycle", nowMs, state, planned: this.values.read(source) as Planned };
  }

  private parts(source: ByteSource): Readonly<Record<string, unknown>> {
    const names = this.values.read(source, Object.keys(this.state)) as readonly string[];
    const entries = names.map((name) => {
      const before = this.state[name];
      const how = source.byte();
      if (how === parts.kept) return [name, before] as const;
      if (how === parts.list) return [name, this.list(name).read(source)] as const;
      return [name, this.values.read(source, before)] as const;
    });
    this.state = Object.fromEntries(entries);
    return this.state;
  }

  private list(name: string): ListReader {
    const known = this.lists.get(name);
    if (known !== undefined) return known;
    const made = new ListReader(this.values);
    this.lists.set(name, made);
    return made;
  }
}

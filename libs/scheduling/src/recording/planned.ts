import type { TaskId } from "@fastgpu/domain/ids";
import type { MemberPlace, Plan, WaitReason } from "../plan.ts";
import { Digest } from "./digest.ts";
import { same } from "./same.ts";

/** What is recorded of a plan: all of it, but of the reasons only a digest and how many there are of each. */
export interface Planned extends Omit<Plan, "placements" | "reasons"> {
  readonly placements: readonly {
    readonly task: TaskId;
    readonly elements: number;
    readonly members: readonly MemberPlace[];
  }[];
  readonly reasons: {
    /** Of every reason with its words, task by task. */
    readonly digest: string;
    /** Tasks that wait, by reason. */
    readonly counts: Readonly<Partial<Record<WaitReason["reason"], number>>>;
  };
}

/** A plan as it is recorded. Two plans are the same decisions exactly where these are the same. */
export function planned(plan: Plan): Planned {
  return {
    ...plan,
    placements: plan.placements.map((placement) => ({ ...placement, task: placement.task.id })),
    reasons: ofReasons(plan.reasons),
  };
}

function ofReasons(reasons: Plan["reasons"]): Planned["reasons"] {
  const digest = new Digest();
  const counts: Partial<Record<WaitReason["reason"], number>> = {};
  // Tasks of a kind share one reason: its words are gone through once.
  const known = new Map<WaitReason, number>();
  for (const [task, reason] of reasons) {
    let word = known.get(reason);
    if (word === undefined) {
      const words = new Digest();
      words.text(reason.reason);
      words.text(reason.message);
      known.set(reason, (word = words.word()));
    }
    digest.text(task);
    digest.number(word);
    counts[reason.reason] = (counts[reason.reason] ?? 0) + 1;
  }
  return { digest: digest.hex(), counts };
}

/** Parts of two plans that differ, with how each says it; empty where they are the same decisions. */
export function differences(
  recorded: Planned,
  replayed: Planned,
): { readonly part: string; readonly recorded: unknown; readonly replayed: unknown }[] {
  const [a, b] = [asRecord(recorded), asRecord(replayed)];
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return names.flatMap((part) =>
    same(a[part], b[part]) ? [] : [{ part, recorded: a[part], replayed: b[part] }],
  );
}

const asRecord = (value: Planned): Readonly<Record<string, unknown>> => ({ ...value });

import type { ExitClass } from "@fastgpu/domain/states";
import type { CheckpointUse } from "../checkpoint/store.ts";
import type { IndexRanges } from "../runtime/port.ts";
import { withWhole } from "./classify.ts";
import type { Life } from "./machine.ts";

/**
 * What an attempt leaves of its task's checkpoints once its end is acknowledged: what is over for good is dropped,
 * whatever may come back to this worker finds its own. `leased`: indexes of a range, undefined outside arrays.
 * `inGang`: a member's good end is not the task's, which may be tried again with all members.
 */
export function checkpointUse(
  life: Life,
  leased: IndexRanges | undefined,
  inGang: boolean,
): CheckpointUse | undefined {
  if (life.phase !== "ENDED") return undefined;
  const isOver = ({ exitClass }: { exitClass: ExitClass }): boolean =>
    (exitClass === "ok" && !inGang) || exitClass === "cancelled";
  if (leased === undefined) return { kind: "whole", over: isOver(life.end) };
  const ended = withWhole(life.end, leased).elements.filter(isOver);
  return { kind: "elements", leased, over: ended.flatMap(({ ranges }) => ranges) };
}

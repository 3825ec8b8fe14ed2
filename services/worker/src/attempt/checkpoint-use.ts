import type { ExitClass } from "@fastgpu/domain/states";
import type { CheckpointUse } from "../checkpoint/store.ts";
import type { IndexRanges } from "../runtime/port.ts";
import { withWhole } from "./classify.ts";
import type { Life } from "./machine.ts";

/** Whether an end is its task's for good. `inGang`: a member's good end is not, the gang may be tried again. */
const isOver = ({ exitClass }: { exitClass: ExitClass }, inGang: boolean): boolean =>
  (exitClass === "ok" && !inGang) || exitClass === "cancelled";

/** Whether a later attempt may go on from this end's checkpoint, on any worker. */
export const mayResume = (end: { exitClass: ExitClass }, inGang: boolean): boolean =>
  !isOver(end, inGang);

/**
 * What an attempt leaves of its task's checkpoints once its end is acknowledged: what is over for good is dropped,
 * whatever may come back to this worker finds its own. `leased`: indexes of a range, undefined outside arrays.
 */
export function checkpointUse(
  life: Life,
  leased: IndexRanges | undefined,
  inGang: boolean,
): CheckpointUse | undefined {
  if (life.phase !== "ENDED") return undefined;
  if (leased === undefined) return { kind: "whole", over: isOver(life.end, inGang) };
  const ended = withWhole(life.end, leased).elements.filter((element) => isOver(element, inGang));
  return { kind: "elements", leased, over: ended.flatMap(({ ranges }) => ranges) };
}

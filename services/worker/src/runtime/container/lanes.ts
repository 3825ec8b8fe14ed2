import { appendFileSync, chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { indexesOf } from "../../ranges.ts";
import type { ArrayRange, Launch } from "../port.ts";
import { insidePaths } from "./engine.ts";

/**
 * Runs the elements of a range in one container: lanes of a shell inside, each with its list of indexes, each element
 * noted in a file outside. It needs /bin/sh in the image, and neither worker nor keeper while it runs.
 */
const script = `
io=${insidePaths.io}; own=$1; n=$2; shift 2
trap 'kill -TERM -1' TERM
lane() {
  stop=; trap 'stop=1' TERM
  k=$1; shift
  while IFS= read -r i <&9; do
    [ -n "$own" ] && export FASTGPU_CHECKPOINT_DIR="${insidePaths.checkpoints}/$i"
    FASTGPU_ARRAY_INDEX=$i "$@" 9<&-; c=$?
    [ -n "$stop" ] && return
    e=x; [ $c -eq 0 ] && e=o
    echo "$i $e $c" >> $io/elements
  done 9< $io/lane-$k
}
k=0; while [ $k -lt $n ]; do lane $k "$@" & k=$((k+1)); done
until wait; do :; done`;

/** Writes the lanes' lists into `ioDir` and returns the command that runs the launch's command over them. */
export function prepareLanes(
  ioDir: string,
  array: ArrayRange,
  { command, checkpoints }: Pick<Launch, "command" | "checkpoints">,
): readonly string[] {
  const indexes = indexesOf(array.ranges);
  const lanes = Math.max(1, Math.min(array.slots, indexes.length));
  for (let lane = 0; lane < lanes; lane += 1) {
    const own = indexes.filter((_, i) => i % lanes === lane);
    const path = join(ioDir, `lane-${lane}`);
    appendFileSync(path, own.map((index) => `${index}\n`).join(""), { flag: "w" });
    chmodSync(path, 0o644);
  }
  for (const index of checkpoints === undefined ? [] : indexes) {
    const path = join(checkpoints ?? "", String(index));
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o777);
  }
  const own = checkpoints === undefined ? "" : "1";
  return ["/bin/sh", "-c", script, "fastgpu-lanes", own, String(lanes), ...command];
}

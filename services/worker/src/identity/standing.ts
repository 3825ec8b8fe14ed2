import { existsSync, readFileSync } from "node:fs";
import { writeJson } from "../keeper/files.ts";

/** What the scheduler told this worker last, kept over restarts. */
export interface Standing {
  /** Incarnation of the platform; a restore raises it. 0 before the first Welcome. */
  incarnation(): number;
  /** The id of a GPU by its uuid; undefined before the scheduler named it. */
  gpuId(uuid: string): string | undefined;
  /** Keeps a Welcome; true where the platform was restored since the last one. */
  obey(welcome: { incarnation: number; gpuIds: Readonly<Record<string, string>> }): boolean;
}

interface Row {
  readonly incarnation: number;
  readonly gpuIds: Readonly<Record<string, string>>;
}

/** Opens the standing kept at `path`. */
export function openStanding(path: string): Standing {
  let row: Row = existsSync(path)
    ? (JSON.parse(readFileSync(path, "utf8")) as Row)
    : { incarnation: 0, gpuIds: {} };
  return {
    incarnation: () => row.incarnation,
    gpuId: (uuid) => row.gpuIds[uuid],
    obey(next) {
      const restored = row.incarnation > 0 && next.incarnation > row.incarnation;
      if (JSON.stringify(next) !== JSON.stringify(row)) {
        row = next;
        writeJson(path, next, true);
      }
      return restored;
    },
  };
}

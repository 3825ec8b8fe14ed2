import { existsSync, readFileSync } from "node:fs";
import { writeJson } from "../keeper/files.ts";

/** The incarnation of the platform that this worker last obeyed: a restore raises it. */
export interface Incarnation {
  /** 0 before the first Welcome. */
  last(): number;
  /** Keeps a Welcome's incarnation; true where the platform was restored since the last one. */
  obey(incarnation: number): boolean;
}

/** Opens the incarnation kept at `path`. */
export function openIncarnation(path: string): Incarnation {
  let last = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as number) : 0;
  return {
    last: () => last,
    obey(incarnation) {
      if (incarnation === last) return false;
      const restored = last > 0 && incarnation > last;
      last = incarnation;
      writeJson(path, incarnation, true);
      return restored;
    },
  };
}

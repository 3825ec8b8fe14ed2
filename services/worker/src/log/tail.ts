import { stat } from "node:fs/promises";
import { readLogRange } from "./reader.ts";

const tailBytes = 16 * 1024;
/** A log beyond this is not searched for its end: records can only be found from the beginning. */
const longestBytes = 256 * 1024 * 1024;

/** The end of what a task wrote to standard error; empty for a very long log. */
export async function errorTailOf(path: string): Promise<string> {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  let text = "";
  for (let offset = 0; size <= longestBytes;) {
    const range = await readLogRange(path, offset, 1024 * 1024);
    if (range.frames.length === 0) break;
    const stderr = range.frames.filter((frame) => frame.record.stream === "stderr");
    text += stderr.map((frame) => Buffer.from(frame.record.data).toString()).join("");
    text = text.slice(-tailBytes);
    offset = range.nextOffset;
  }
  return text;
}

import { appendFileSync, writeSync } from "node:fs";

/**
 * Where FastGPU wants structured progress: a file descriptor (FASTGPU_PROGRESS_FD) or a file
 * (FASTGPU_PROGRESS_FILE), one JSON object a line. Without either the reporter does nothing.
 * Progress is a courtesy: a reader that has gone must not end the training.
 *
 * @param {Record<string, string | undefined>} environment
 * @returns {(progress: {
 *   step: number, of: number, metrics: Record<string, number>, checkpoint?: boolean,
 * }) => void}
 */
export function progressReporter(environment) {
  const descriptor = Number.parseInt(environment["FASTGPU_PROGRESS_FD"] ?? "", 10);
  const file = environment["FASTGPU_PROGRESS_FILE"];
  /** @type {((line: string) => void) | undefined} */
  let write;
  if (Number.isInteger(descriptor)) write = (line) => void writeSync(descriptor, line);
  else if (file) write = (line) => appendFileSync(file, line);

  return (progress) => {
    try {
      write?.(`${JSON.stringify(progress)}\n`);
    } catch (error) {
      const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
      // A full pipe (EAGAIN) loses this line only; anything else will not get better.
      if (code === "EAGAIN") return;
      write = undefined;
      process.stderr.write(`digits: progress is not reported any more: ${message}\n`);
    }
  };
}

import { parseArgs } from "node:util";

/**
 * @typedef {object} TrainingOptions
 * @property {number} epochs passes over the training images
 * @property {number} batchSize images per update
 * @property {number} learningRate of Adam
 * @property {number} seed of the first weights and of the order of the images
 */

/** What `--help` prints. */
export const HELP = `Usage: node train.mjs [--epochs 20] [--batch-size 32] [--learning-rate 0.003] [--seed 7]

Trains a small convolutional network on the UCI handwritten digits.

Environment:
  FASTGPU_OUTPUT_DIR      where model.json and metrics.json go (default: ./out)
  FASTGPU_CHECKPOINT_DIR  where it saves its state after each epoch and on a stop signal, and
                          finds that of an earlier run (default: no checkpoints)
  FASTGPU_PROGRESS_FD     file descriptor, or FASTGPU_PROGRESS_FILE file, for progress as JSON lines
  FASTGPU_GPU_SIMULATED   1: say that the GPU is simulated

Exit codes:
  0   trained; model.json and metrics.json are written
  2   wrong arguments
  75  stopped by SIGTERM or SIGINT, checkpoint written: run again to go on where it stopped
  76  stopped by SIGTERM or SIGINT with nowhere to write a checkpoint: the work is lost
`;

/**
 * @param {string[]} args
 * @returns {TrainingOptions | "help"} throws an Error that says what is wrong
 */
export function parseOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      epochs: { type: "string", default: "20" },
      "batch-size": { type: "string", default: "32" },
      "learning-rate": { type: "string", default: "0.003" },
      seed: { type: "string", default: "7" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  return {
    epochs: whole("epochs", values.epochs, { least: 1, most: 10_000 }),
    batchSize: whole("batch-size", values["batch-size"], { least: 1, most: 1_437 }),
    learningRate: rate(values["learning-rate"]),
    seed: whole("seed", values.seed, { least: 0, most: 2 ** 32 - 1 }),
  };
}

/**
 * @param {string} name
 * @param {string} text
 * @param {{least: number, most: number}} range
 */
function whole(name, text, { least, most }) {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new Error(`--${name} must be a whole number from ${least} to ${most}, not "${text}"`);
}

/** @param {string} text */
function rate(text) {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (value > 0 && value <= 1) return value;
  throw new Error(`--learning-rate must be a number above 0 and at most 1, not "${text}"`);
}

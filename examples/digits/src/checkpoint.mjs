import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeFloats, encodeFloats, writeJsonAtomically } from "./files.mjs";

/**
 * Everything that the next batch depends on: with it, a resumed run goes on to the bit.
 *
 * @typedef {object} TrainingState
 * @property {number} epoch epochs finished
 * @property {number} batch batches finished in the epoch under way
 * @property {number} lossSum of the epoch under way, over its images so far
 * @property {number} correct images of the epoch under way that were right before learning
 * @property {Array<EpochMetrics>} history one entry per finished epoch
 * @property {Float32Array} parameters
 * @property {import("./adam.mjs").AdamState} adam
 */

/**
 * @typedef {object} EpochMetrics
 * @property {number} epoch
 * @property {number} loss mean cross-entropy over the training images, in nats
 * @property {number} trainAccuracy share of right answers while learning
 * @property {number} accuracy share of right answers on the test images
 */

const VERSION = 1;

/** @param {string} directory */
function checkpointPath(directory) {
  return join(directory, "checkpoint.json");
}

/**
 * @param {string} directory
 * @param {{options: object, state: TrainingState}} checkpoint
 */
export function saveCheckpoint(directory, { options, state }) {
  const { parameters, adam, ...rest } = state;
  writeJsonAtomically(checkpointPath(directory), {
    version: VERSION,
    options,
    ...rest,
    parameters: encodeFloats(parameters),
    adam: {
      steps: adam.steps,
      mean: encodeFloats(adam.mean),
      square: encodeFloats(adam.square),
    },
  });
}

/**
 * Reads the checkpoint of an earlier run with the same options.
 *
 * @param {string} directory
 * @param {{options: object, size: number}} expected size: number of parameters
 * @returns {{kind: "none"} | {kind: "unusable", why: string} | {kind: "found", state: TrainingState}}
 */
export function loadCheckpoint(directory, { options, size }) {
  let text;
  try {
    text = readFileSync(checkpointPath(directory), "utf8");
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return { kind: "none" };
    throw error;
  }
  try {
    const { version, options: made, parameters, adam, ...rest } = JSON.parse(text);
    if (version !== VERSION) return { kind: "unusable", why: `it has version ${version}` };
    if (JSON.stringify(made) !== JSON.stringify(options)) {
      return { kind: "unusable", why: `it was made with ${JSON.stringify(made)}` };
    }
    const state = {
      ...rest,
      parameters: decodeFloats(parameters),
      adam: {
        steps: adam.steps,
        mean: decodeFloats(adam.mean),
        square: decodeFloats(adam.square),
      },
    };
    const vectors = [state.parameters, state.adam.mean, state.adam.square];
    if (vectors.some((vector) => vector.length !== size)) {
      return { kind: "unusable", why: "it belongs to another network" };
    }
    return { kind: "found", state };
  } catch (error) {
    return { kind: "unusable", why: /** @type {Error} */ (error).message };
  }
}

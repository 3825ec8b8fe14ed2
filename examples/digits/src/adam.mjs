/**
 * Adam (Kingma & Ba 2015) over one flat parameter vector.
 *
 * @typedef {object} AdamState
 * @property {number} steps updates made so far
 * @property {Float32Array} mean running mean of the gradients
 * @property {Float32Array} square running mean of their squares
 */

const MEAN_DECAY = 0.9;
const SQUARE_DECAY = 0.999;
const EPSILON = 1e-8;

/**
 * @param {number} size number of parameters
 * @returns {AdamState}
 */
export function adamStart(size) {
  return { steps: 0, mean: new Float32Array(size), square: new Float32Array(size) };
}

/**
 * Moves the parameters one step against their gradients and sets the gradients back to zero.
 *
 * @param {AdamState} state changed in place
 * @param {{parameters: Float32Array, gradients: Float32Array, rate: number}} step
 */
export function adamStep(state, { parameters, gradients, rate }) {
  const { mean, square } = state;
  state.steps += 1;
  const meanScale = 1 / (1 - MEAN_DECAY ** state.steps);
  const squareScale = 1 / (1 - SQUARE_DECAY ** state.steps);
  for (let at = 0; at < parameters.length; at++) {
    const gradient = gradients[at];
    mean[at] = MEAN_DECAY * mean[at] + (1 - MEAN_DECAY) * gradient;
    square[at] = SQUARE_DECAY * square[at] + (1 - SQUARE_DECAY) * gradient * gradient;
    parameters[at] -=
      (rate * mean[at] * meanScale) / (Math.sqrt(square[at] * squareScale) + EPSILON);
  }
  gradients.fill(0);
}

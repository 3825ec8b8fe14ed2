import { CLASSES, SIDE } from "./data.mjs";
import { convolution, dense, maxPool } from "./layers.mjs";
import { seededRandom } from "./random.mjs";

const FIRST_CHANNELS = 8;
const SECOND_CHANNELS = 16;
const POOLED_SIDE = SIDE / 2;
const FEATURES = SECOND_CHANNELS * POOLED_SIDE * POOLED_SIDE;

/** What the network is made of, as written into model.json. */
export const ARCHITECTURE = [
  { layer: "convolution", kernel: 3, inputs: 1, outputs: FIRST_CHANNELS, activation: "relu" },
  { layer: "max-pool", size: 2 },
  {
    layer: "convolution",
    kernel: 3,
    inputs: FIRST_CHANNELS,
    outputs: SECOND_CHANNELS,
    activation: "relu",
  },
  { layer: "dense", inputs: FEATURES, outputs: CLASSES, activation: "softmax" },
];

/** Numbers of weights (kernels or matrix) and biases of each layer that has some, in order. */
const SIZES = [
  { weights: FIRST_CHANNELS * 9, biases: FIRST_CHANNELS, fanIn: 9 },
  {
    weights: SECOND_CHANNELS * FIRST_CHANNELS * 9,
    biases: SECOND_CHANNELS,
    fanIn: FIRST_CHANNELS * 9,
  },
  { weights: CLASSES * FEATURES, biases: CLASSES, fanIn: FEATURES },
];

/** How many numbers the network learns. */
export const PARAMETER_COUNT = SIZES.reduce((sum, size) => sum + size.weights + size.biases, 0);

/**
 * First weights: normal-ish noise of variance 2 / fan-in (He et al. 2015), biases 0.
 *
 * @param {number} seed
 * @returns {Float32Array}
 */
export function initialParameters(seed) {
  const random = seededRandom(seed);
  const parameters = new Float32Array(PARAMETER_COUNT);
  let at = 0;
  for (const { weights, biases, fanIn } of SIZES) {
    // A uniform number on [−a, a] has variance a²/3.
    const reach = Math.sqrt((3 * 2) / fanIn);
    for (let end = at + weights; at < end; at++) parameters[at] = (2 * random() - 1) * reach;
    at += biases;
  }
  return parameters;
}

/**
 * The convolutional network over one flat vector of parameters, which it reads in place.
 *
 * @param {Float32Array} parameters PARAMETER_COUNT numbers
 */
export function createNetwork(parameters) {
  if (parameters.length !== PARAMETER_COUNT) {
    throw new Error(`the network has ${PARAMETER_COUNT} parameters, not ${parameters.length}`);
  }
  const gradients = new Float32Array(PARAMETER_COUNT);
  let offset = 0;
  const [first, second, third] = SIZES.map((size) => {
    const end = offset + size.weights + size.biases;
    const slice = {
      values: parameters.subarray(offset, end),
      gradients: gradients.subarray(offset, end),
    };
    offset = end;
    return slice;
  });
  const layers = [
    convolution({ weights: first, inputs: 1, outputs: FIRST_CHANNELS, side: SIDE }),
    maxPool({ channels: FIRST_CHANNELS, side: SIDE }),
    convolution({
      weights: second,
      inputs: FIRST_CHANNELS,
      outputs: SECOND_CHANNELS,
      side: POOLED_SIDE,
    }),
    dense({ weights: third, inputs: FEATURES, outputs: CLASSES }),
  ];
  const probabilities = new Float32Array(CLASSES);

  /** @param {Float32Array} image 64 pixels */
  function predict(image) {
    let input = image;
    for (const layer of layers) {
      layer.forward(input);
      input = layer.output;
    }
    softmax(input, probabilities);
    return probabilities;
  }

  return {
    gradients,
    /** The probability of each digit, in a buffer that the next call overwrites. */
    predict,
    /**
     * Adds the gradients of one image's cross-entropy loss, each times `scale`.
     *
     * @param {Float32Array} image
     * @param {number} label
     * @param {number} scale
     * @returns {{loss: number, correct: boolean}} what the network thought before learning from it
     */
    learn(image, label, scale) {
      predict(image);
      const loss = -Math.log(Math.max(probabilities[label], 1e-12));
      const correct = likeliest(probabilities) === label;
      // The gradient of softmax and cross-entropy together is (probability − truth).
      /** @type {Float32Array} */
      let gradient = probabilities.map(
        (value, digit) => (value - (digit === label ? 1 : 0)) * scale,
      );
      for (const layer of layers.toReversed()) gradient = layer.backward(gradient);
      return { loss, correct };
    },
  };
}

/**
 * @param {Float32Array} scores
 * @param {Float32Array} probabilities written
 */
function softmax(scores, probabilities) {
  const highest = scores.reduce((left, right) => Math.max(left, right), -Infinity);
  let sum = 0;
  for (let at = 0; at < scores.length; at++) {
    probabilities[at] = Math.exp(scores[at] - highest);
    sum += probabilities[at];
  }
  for (let at = 0; at < scores.length; at++) probabilities[at] /= sum;
}

/**
 * The index of the largest number (the first of equals).
 *
 * @param {Float32Array} numbers
 * @returns {number}
 */
export function likeliest(numbers) {
  let best = 0;
  for (let at = 1; at < numbers.length; at++) if (numbers[at] > numbers[best]) best = at;
  return best;
}

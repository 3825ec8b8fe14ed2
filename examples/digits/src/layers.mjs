/**
 * @typedef {object} Layer one step of the network; it keeps what its last `forward` saw
 * @property {Float32Array} output filled by `forward`
 * @property {(input: Float32Array) => void} forward
 * @property {(outputGradient: Float32Array) => Float32Array} backward adds to the gradients of
 *   its weights and returns the gradient of its input (a buffer it reuses)
 */

/**
 * @typedef {object} Weights a slice of the network's one flat parameter vector
 * @property {Float32Array} values
 * @property {Float32Array} gradients
 */

/**
 * A 3×3 convolution with bias and ReLU over square images; the border is padded with zeros, so
 * the side stays the same. Channels come one after the other.
 *
 * @param {{weights: Weights, inputs: number, outputs: number, side: number}} shape
 *   weights: outputs × inputs × 9 kernel values, then one bias per output
 * @returns {Layer}
 */
export function convolution({ weights, inputs, outputs, side }) {
  const { values, gradients } = weights;
  const area = side * side;
  const paddedSide = side + 2;
  const paddedArea = paddedSide * paddedSide;
  const padded = new Float32Array(inputs * paddedArea);
  const paddedGradient = new Float32Array(inputs * paddedArea);
  const inputGradient = new Float32Array(inputs * area);
  const output = new Float32Array(outputs * area);
  const biasAt = outputs * inputs * 9;

  return {
    output,
    forward(input) {
      copyRows({ from: input, to: padded, channels: inputs, side, pad: true });
      for (let out = 0; out < outputs; out++) {
        for (let y = 0; y < side; y++) {
          for (let x = 0; x < side; x++) {
            let sum = values[biasAt + out];
            let kernel = out * inputs * 9;
            for (let channel = 0; channel < inputs; channel++) {
              let at = channel * paddedArea + y * paddedSide + x;
              for (let row = 0; row < 3; row++, at += paddedSide, kernel += 3) {
                sum +=
                  values[kernel] * padded[at] +
                  values[kernel + 1] * padded[at + 1] +
                  values[kernel + 2] * padded[at + 2];
              }
            }
            output[out * area + y * side + x] = sum > 0 ? sum : 0;
          }
        }
      }
    },
    backward(outputGradient) {
      paddedGradient.fill(0);
      for (let out = 0; out < outputs; out++) {
        for (let y = 0; y < side; y++) {
          for (let x = 0; x < side; x++) {
            const place = out * area + y * side + x;
            const gradient = outputGradient[place];
            if (output[place] === 0 || gradient === 0) continue;
            gradients[biasAt + out] += gradient;
            let kernel = out * inputs * 9;
            for (let channel = 0; channel < inputs; channel++) {
              let at = channel * paddedArea + y * paddedSide + x;
              for (let row = 0; row < 3; row++, at += paddedSide, kernel += 3) {
                for (let column = 0; column < 3; column++) {
                  gradients[kernel + column] += gradient * padded[at + column];
                  paddedGradient[at + column] += gradient * values[kernel + column];
                }
              }
            }
          }
        }
      }
      copyRows({ from: paddedGradient, to: inputGradient, channels: inputs, side, pad: false });
      return inputGradient;
    },
  };
}

/**
 * Copies images into a frame of zeros one pixel wide, or out of it.
 *
 * @param {{from: Float32Array, to: Float32Array, channels: number, side: number, pad: boolean}} copy
 */
function copyRows({ from, to, channels, side, pad }) {
  const paddedSide = side + 2;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < side; y++) {
      const plain = (channel * side + y) * side;
      const framed = (channel * paddedSide + y + 1) * paddedSide + 1;
      if (pad) to.set(from.subarray(plain, plain + side), framed);
      else to.set(from.subarray(framed, framed + side), plain);
    }
  }
}

/**
 * Keeps the largest of each 2×2 block: half the side, the same channels.
 *
 * @param {{channels: number, side: number}} shape of the input; the side is even
 * @returns {Layer}
 */
export function maxPool({ channels, side }) {
  const half = side / 2;
  const output = new Float32Array(channels * half * half);
  const winners = new Uint32Array(output.length);
  const inputGradient = new Float32Array(channels * side * side);

  return {
    output,
    forward(input) {
      for (let place = 0; place < output.length; place++) {
        const channel = Math.floor(place / (half * half));
        const y = Math.floor(place / half) % half;
        const corner = (channel * side + 2 * y) * side + 2 * (place % half);
        let winner = corner;
        for (const other of [corner + 1, corner + side, corner + side + 1]) {
          if (input[other] > input[winner]) winner = other;
        }
        winners[place] = winner;
        output[place] = input[winner];
      }
    },
    backward(outputGradient) {
      inputGradient.fill(0);
      for (let place = 0; place < output.length; place++) {
        inputGradient[winners[place]] += outputGradient[place];
      }
      return inputGradient;
    },
  };
}

/**
 * A fully connected layer with bias and no activation.
 *
 * @param {{weights: Weights, inputs: number, outputs: number}} shape
 *   weights: outputs × inputs values, then one bias per output
 * @returns {Layer}
 */
export function dense({ weights, inputs, outputs }) {
  const { values, gradients } = weights;
  const output = new Float32Array(outputs);
  const seen = new Float32Array(inputs);
  const inputGradient = new Float32Array(inputs);
  const biasAt = outputs * inputs;

  return {
    output,
    forward(input) {
      seen.set(input);
      for (let out = 0; out < outputs; out++) {
        let sum = values[biasAt + out];
        for (let at = 0; at < inputs; at++) sum += values[out * inputs + at] * seen[at];
        output[out] = sum;
      }
    },
    backward(outputGradient) {
      inputGradient.fill(0);
      for (let out = 0; out < outputs; out++) {
        const gradient = outputGradient[out];
        gradients[biasAt + out] += gradient;
        for (let at = 0; at < inputs; at++) {
          gradients[out * inputs + at] += gradient * seen[at];
          inputGradient[at] += gradient * values[out * inputs + at];
        }
      }
      return inputGradient;
    },
  };
}

import { describe, expect, test } from "vitest";
import { imageAt, readDigits, splitImages } from "../src/data.mjs";
import { PARAMETER_COUNT, createNetwork, initialParameters } from "../src/network.mjs";

const images = readDigits();

describe("the data", () => {
  test("is the whole UCI test set: 1,797 images, about as many of each digit", () => {
    expect(images.count).toBe(1797);
    const counts = Array.from(
      { length: 10 },
      (_, digit) => images.labels.filter((label) => label === digit).length,
    );
    expect(counts).toEqual([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    expect(Math.max(...images.pixels)).toBe(1);
    expect(Math.min(...images.pixels)).toBe(0);
  });

  test("is split so that each image is on exactly one side", () => {
    const { train, test: held } = splitImages(images);
    expect([train.count, held.count]).toEqual([1437, 360]);
    const key = (set: typeof images, index: number): string =>
      `${set.labels[index]}:${Array.from(imageAt(set, index)).join()}`;
    const all = (set: typeof images): string[] =>
      Array.from({ length: set.count }, (_, index) => key(set, index));
    expect([...all(train), ...all(held)].toSorted()).toEqual(all(images).toSorted());
  });
});

describe("the network", () => {
  test("has the gradients that small changes of each parameter measure", () => {
    // Zero biases would put every black pixel exactly on the corner of the ReLU.
    const parameters = initialParameters(11).map((value) => value + 0.03);
    const network = createNetwork(parameters);
    const image = imageAt(images, 4);
    const label = images.labels[4] ?? 0;
    const lossNow = (): number => -Math.log(network.predict(image)[label] ?? 0);
    network.learn(image, label, 1);
    const gradients = Float32Array.from(network.gradients);

    // Small, so that no ReLU or maximum changes sides within it.
    const step = 1 / 4096;
    let compared = 0;
    for (let at = 0; at < PARAMETER_COUNT; at += 37) {
      const kept = parameters[at] ?? 0;
      parameters[at] = kept + step;
      const above = lossNow();
      parameters[at] = kept - step;
      const below = lossNow();
      parameters[at] = kept;
      const measured = (above - below) / (2 * step);
      expect(gradients[at], `parameter ${at}`).toBeCloseTo(measured, 2);
      if (Math.abs(measured) > 0.02) compared += 1;
    }
    // Many of them must be far from zero, or the comparison shows nothing.
    expect(compared).toBeGreaterThan(15);
  });

  test("answers with probabilities", () => {
    const network = createNetwork(initialParameters(3));
    const probabilities = network.predict(imageAt(images, 0));
    expect(probabilities.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 5);
  });

  test("refuses a parameter vector of another network", () => {
    expect(() => createNetwork(new Float32Array(3))).toThrow("3818 parameters, not 3");
  });
});

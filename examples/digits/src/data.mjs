import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { shuffledIndexes } from "./random.mjs";

/** Side of an image in pixels, and how many classes there are. */
export const SIDE = 8;
export const CLASSES = 10;

const PIXELS = SIDE * SIDE;
const BRIGHTEST = 16;
const SPLIT_SEED = 1998;
const TEST_SHARE = 0.2;

/**
 * @typedef {object} Images
 * @property {number} count
 * @property {Float32Array} pixels count × 64 brightnesses in 0 … 1, row by row
 * @property {Uint8Array} labels the digit on each image
 */

/**
 * Reads the UCI handwritten digits (see the README for source and licence): one image a line,
 * 64 brightnesses from 0 to 16 and the digit.
 *
 * @param {URL} file a gzipped CSV file
 * @returns {Images}
 */
export function readDigits(file = new URL("../data/digits.csv.gz", import.meta.url)) {
  const lines = gunzipSync(readFileSync(file)).toString("ascii").trim().split("\n");
  const pixels = new Float32Array(lines.length * PIXELS);
  const labels = new Uint8Array(lines.length);
  for (const [row, line] of lines.entries()) {
    const cells = line.split(",").map(Number);
    const label = cells.pop();
    const sound =
      label !== undefined &&
      cells.length === PIXELS &&
      [...cells, label].every(Number.isInteger) &&
      cells.every((value) => value >= 0 && value <= BRIGHTEST) &&
      label >= 0 &&
      label < CLASSES;
    if (!sound)
      throw new Error(`${file.pathname}: line ${row + 1} is not 64 brightnesses and a digit`);
    pixels.set(
      cells.map((value) => value / BRIGHTEST),
      row * PIXELS,
    );
    labels[row] = label;
  }
  return { count: lines.length, pixels, labels };
}

/**
 * Splits the images 80 : 20 (1,437 to learn from, 360 to test with) by one fixed shuffle that no
 * option changes: results of different runs compare, and no test image is ever learned from.
 *
 * @param {Images} images
 * @returns {{train: Images, test: Images}}
 */
export function splitImages(images) {
  const order = shuffledIndexes(images.count, SPLIT_SEED);
  const testCount = Math.ceil(images.count * TEST_SHARE);
  return {
    train: pick(images, order.subarray(testCount)),
    test: pick(images, order.subarray(0, testCount)),
  };
}

/**
 * @param {Images} images
 * @param {Uint32Array} rows
 * @returns {Images}
 */
function pick(images, rows) {
  const pixels = new Float32Array(rows.length * PIXELS);
  const labels = new Uint8Array(rows.length);
  rows.forEach((row, index) => {
    pixels.set(imageAt(images, row), index * PIXELS);
    labels[index] = images.labels[row] ?? 0;
  });
  return { count: rows.length, pixels, labels };
}

/**
 * The 64 pixels of one image, as a view.
 *
 * @param {Images} images
 * @param {number} index
 * @returns {Float32Array}
 */
export function imageAt(images, index) {
  return images.pixels.subarray(index * PIXELS, (index + 1) * PIXELS);
}

#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { SIDE, imageAt, readDigits, splitImages } from "./data.mjs";
import { decodeFloats } from "./files.mjs";
import { createNetwork, likeliest } from "./network.mjs";

// Shows what a trained model makes of one test image: node predict.mjs MODEL.json [IMAGE]

const [modelFile, index = "0"] = process.argv.slice(2);
const { test } = splitImages(readDigits());
if (modelFile === undefined || !/^\d+$/.test(index) || Number(index) >= test.count) {
  process.stderr.write(`Usage: node predict.mjs MODEL.json [IMAGE from 0 to ${test.count - 1}]\n`);
  process.exit(2);
}

const model = JSON.parse(readFileSync(modelFile, "utf8"));
const network = createNetwork(decodeFloats(model.parameters.data));
const image = imageAt(test, Number(index));
const probabilities = network.predict(image);
const answer = likeliest(probabilities);

for (let y = 0; y < SIDE; y++) {
  const row = image.subarray(y * SIDE, (y + 1) * SIDE);
  console.log(Array.from(row, (value) => " .:-=+*#@"[Math.round(value * 8)]?.repeat(2)).join(""));
}
console.log(
  `the model sees a ${answer} (${(100 * probabilities[answer]).toFixed(1)} %); it is a ${test.labels[Number(index)]}`,
);

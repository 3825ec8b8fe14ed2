import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Replaces a file in one step: whoever reads it, also after a power cut, finds the old or the
 * new content and never half of one.
 *
 * @param {string} path its folder is made where it is missing
 * @param {unknown} value written as JSON
 */
export function writeJsonAtomically(path, value) {
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}.part`;
  const file = openSync(draft, "w");
  try {
    writeFileSync(file, `${JSON.stringify(value)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}

/**
 * @param {Float32Array} numbers
 * @returns {string} their little-endian bytes in base64
 */
export function encodeFloats(numbers) {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).toString("base64");
}

/**
 * @param {string} text what `encodeFloats` wrote
 * @returns {Float32Array}
 */
export function decodeFloats(text) {
  // Copied, since a small Buffer's bytes need not start at a multiple of four.
  return new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
}

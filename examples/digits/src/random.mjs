/**
 * A seeded generator, so that a run can be repeated to the bit: "mulberry32" (Tommy Ettinger,
 * public domain), 32 bits of state, good enough for shuffles and initial weights.
 *
 * @param {number} seed any integer; only its low 32 bits count
 * @returns {() => number} the next number in [0, 1)
 */
export function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The numbers 0 … count − 1 in an order that depends on the seed alone (Fisher–Yates).
 *
 * @param {number} count
 * @param {number} seed
 * @returns {Uint32Array}
 */
export function shuffledIndexes(count, seed) {
  const random = seededRandom(seed);
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}

import type { Rng } from "./plan.ts";

/** mulberry32, a public-domain generator: small, seedable, good enough to break ties. The seed is taken modulo 2³². */
export function seededRng(seed: number): Rng {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Whether two values are the same to the last bit: keys and entries in the same order, NaN equal to itself, 0 not to −0. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item: unknown, at) => same(item, b[at]));
  }
  if (a instanceof Map || b instanceof Map) {
    return a instanceof Map && b instanceof Map && same([...a], [...b]);
  }
  return sameFields(a as Record<string, unknown>, b as Record<string, unknown>);
}

function sameFields(
  a: Readonly<Record<string, unknown>>,
  b: Readonly<Record<string, unknown>>,
): boolean {
  const keys = Object.keys(a);
  const others = Object.keys(b);
  if (keys.length !== others.length) return false;
  return keys.every((key, at) => key === others[at] && same(a[key], b[key]));
}

/** A name of the keys and their order that no other list of keys has. */
export const shapeOf = (keys: readonly string[]): string => JSON.stringify(keys);

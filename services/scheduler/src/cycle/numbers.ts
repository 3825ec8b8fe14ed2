/** Numbers for values that are equal by content; each value is kept once. */
export interface Numbers<Value> {
  of(value: Value): number;
  get(number: number): Value;
  keyOf(number: number): string;
}

/** An empty numbering. */
export function createNumbers<Value extends object>(): Numbers<Value> {
  const byKey = new Map<string, number>();
  const values: Value[] = [];
  const keys: string[] = [];
  // The same object comes again and again while a page is read: its text is made once.
  const byObject = new WeakMap<Value, number>();
  const numberOf = (value: Value): number => {
    const key = JSON.stringify(value);
    const known = byKey.get(key);
    if (known !== undefined) return known;
    byKey.set(key, values.length);
    keys.push(key);
    return values.push(value) - 1;
  };
  return {
    of(value) {
      let number = byObject.get(value);
      if (number === undefined) byObject.set(value, (number = numberOf(value)));
      return number;
    },
    get: (number) => values[number]!,
    keyOf: (number) => keys[number]!,
  };
}

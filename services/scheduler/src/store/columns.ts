/** A bigint column that may be null, as a number. */
export const optional = (value: bigint | null): number | undefined =>
  value === null ? undefined : Number(value);

/** The least uuid: a page that begins after it begins with the first row. */
export const nil = "00000000-0000-0000-0000-000000000000";

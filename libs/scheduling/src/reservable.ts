import { Flow } from "./flow.ts";

/** GPUs wanted for a time. */
export interface Span {
  readonly gpus: number;
  /** Models that will do; empty: any. */
  readonly models: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
}

/** The scarcest moment of a time. */
export interface Reservable {
  /** Most GPUs that can be had at every moment of it. */
  readonly gpus: number;
  /** Beginning of the first moment at which there are no more. */
  readonly atMs: number;
}

/**
 * How many GPUs a span can have beside others at each of its moments, of these GPUs by model. Others keep what they
 * have, but may have it of whichever of their models leaves most room: a greatest flow from spans over models, of the
 * others first.
 */
export function reservable(
  wanted: Span,
  others: readonly Span[],
  supply: ReadonlyMap<string, number>,
): Reservable {
  const beside = others.filter(
    ({ startMs, endMs }) => startMs < wanted.endMs && wanted.startMs < endMs,
  );
  // Between two beginnings there is only ever more room.
  const moments = [wanted.startMs, ...beside.map(({ startMs }) => startMs)]
    .filter((atMs) => atMs >= wanted.startMs)
    .toSorted((a, b) => a - b);
  let least: Reservable = { gpus: Number.POSITIVE_INFINITY, atMs: wanted.startMs };
  for (const atMs of new Set(moments)) {
    const then = beside.filter(({ startMs, endMs }) => startMs <= atMs && atMs < endMs);
    const gpus = roomAt(wanted, then, supply);
    if (gpus < least.gpus) least = { gpus, atMs };
  }
  return least;
}

function roomAt(
  wanted: Span,
  others: readonly Span[],
  supply: ReadonlyMap<string, number>,
): number {
  const models = [...supply.keys()];
  // Spans of the same models are one: few lists of models are different.
  const merged = new Map<string, { readonly models: readonly string[]; gpus: number }>();
  for (const { models: own, gpus } of others) {
    const key = JSON.stringify(own.toSorted());
    const known = merged.get(key);
    if (known === undefined) merged.set(key, { models: own, gpus });
    else known.gpus += gpus;
  }
  const flow = new Flow(models.map((model) => supply.get(model) ?? 0));
  const columnsOf = (own: readonly string[]): number[] =>
    models.flatMap((model, at) => (own.length === 0 || own.includes(model) ? [at] : []));
  for (const { models: own, gpus } of merged.values()) flow.add(columnsOf(own), gpus);
  return flow.add(columnsOf(wanted.models), Number.POSITIVE_INFINITY).got;
}

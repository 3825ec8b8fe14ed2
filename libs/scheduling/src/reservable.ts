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
 * have, but may have it of whichever of their models leaves most room: a greatest flow from spans over models (Edmonds
 * and Karp, JACM 19(2), 1972), of the others first.
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
  return flow.add(columnsOf(wanted.models), Number.POSITIVE_INFINITY);
}

/** Spans served by models, one after the other; who is served stays served, if of another model. */
class Flow {
  private readonly left: number[];
  private readonly columns: (readonly number[])[] = [];
  /** GPUs of each model, by span. */
  private readonly served: number[][] = [];

  constructor(supply: readonly number[]) {
    this.left = [...supply];
  }

  /** Serves so many more GPUs of some models, as far as it goes; answers how many. */
  add(columns: readonly number[], gpus: number): number {
    const span = this.columns.push(columns) - 1;
    this.served.push(this.left.map(() => 0));
    let got = 0;
    while (got < gpus) {
      const more = this.augment(span, gpus - got);
      if (more === 0) break;
      got += more;
    }
    return got;
  }

  /** One shortest chain: a span takes from a model what another there can have of a next one, …, which has some left. */
  private augment(span: number, atMost: number): number {
    const cameFrom = new Map<number, { readonly span: number; readonly before: number }>();
    const queue: { readonly span: number; readonly column: number }[] = [];
    const reach = (by: number, before: number): void => {
      for (const column of this.columns[by]!) {
        if (cameFrom.has(column)) continue;
        cameFrom.set(column, { span: by, before });
        queue.push({ span: by, column });
      }
    };
    reach(span, -1);
    for (let head = queue.shift(); head !== undefined; head = queue.shift()) {
      const { column } = head;
      if (this.left[column]! > 0) return this.shift(column, cameFrom, atMost);
      for (const [other, served] of this.served.entries()) {
        if (served[column]! > 0) reach(other, column);
      }
    }
    return 0;
  }

  private shift(
    last: number,
    cameFrom: ReadonlyMap<number, { readonly span: number; readonly before: number }>,
    atMost: number,
  ): number {
    let amount = Math.min(atMost, this.left[last]!);
    for (let column = last; ;) {
      const { span, before } = cameFrom.get(column)!;
      if (before < 0) break;
      amount = Math.min(amount, this.served[span]![before]!);
      column = before;
    }
    this.left[last]! -= amount;
    for (let column = last; ;) {
      const { span, before } = cameFrom.get(column)!;
      this.served[span]![column]! += amount;
      if (before < 0) return amount;
      this.served[span]![before]! -= amount;
      column = before;
    }
  }
}

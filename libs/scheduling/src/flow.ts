/**
 * Spans served by columns, one after the other: a greatest flow by shortest chains (Edmonds and Karp, JACM 19(2),
 * 1972). Who is served stays served, if by another column; a column that is used stays used, if by another span.
 */
export class Flow {
  private readonly left: number[];
  private readonly columns: (readonly number[])[];
  /** What each span has of each column. */
  private readonly served: number[][];

  /** What there is, by column. */
  constructor(supply: readonly number[]) {
    this.left = [...supply];
    this.columns = [];
    this.served = [];
  }

  /** Adds a span that may have some columns, and serves it so much as far as it goes; answers its number and how much. */
  add(columns: readonly number[], amount: number): { readonly span: number; readonly got: number } {
    const span = this.columns.push(columns) - 1;
    this.served.push(this.left.map(() => 0));
    return { span, got: this.serve(span, amount) };
  }

  /** Adds columns; answers the number of the first. */
  addColumns(supply: readonly number[]): number {
    const first = this.left.length;
    this.left.push(...supply);
    for (const row of this.served) for (const _ of supply) row.push(0);
    return first;
  }

  /** Lets a span have these columns too. */
  widen(span: number, columns: readonly number[]): void {
    this.columns[span] = [...this.columns[span]!, ...columns];
  }

  /** Serves a span so much more, as far as it goes; answers how much. */
  serve(span: number, amount: number): number {
    let got = 0;
    while (got < amount) {
      const more = this.augment(span, amount - got);
      if (more === 0) break;
      got += more;
    }
    return got;
  }

  /** What nobody has of a column. */
  leftOf(column: number): number {
    return this.left[column]!;
  }

  /** What there is of a column beside what is used. */
  setLeft(column: number, left: number): void {
    this.left[column] = left;
  }

  /** A flow in the same state. */
  copy(): Flow {
    const copy = new Flow(this.left);
    copy.columns.push(...this.columns);
    for (const row of this.served) copy.served.push([...row]);
    return copy;
  }

  /** One shortest chain: a span takes from a column what another there can have of a next one, …, which has some left. */
  private augment(span: number, atMost: number): number {
    const cameFrom = new Map<number, { readonly span: number; readonly before: number }>();
    const queue: number[] = [];
    const reach = (by: number, before: number): void => {
      for (const column of this.columns[by]!) {
        if (cameFrom.has(column)) continue;
        cameFrom.set(column, { span: by, before });
        queue.push(column);
      }
    };
    reach(span, -1);
    for (let column = queue.shift(); column !== undefined; column = queue.shift()) {
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

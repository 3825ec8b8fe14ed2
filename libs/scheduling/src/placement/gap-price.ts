/**
 * What a gap on a GPU is worth to the workload's shares.
 *
 * Shares fill GPUs as pieces fill rods in the cutting-stock problem. The dual of its linear
 * program prices each share by what it really costs in GPUs, and a gap is worth the best
 * set of shares that fits it: a gap that no share fits is worth nothing, and a share that
 * goes into it is free. Column generation after Gilmore and Gomory (1961).
 *
 * The gaps that are open now take part as rods that cost nothing, in limited number: once
 * there are more gaps of a size than future shares to fill them, their price falls.
 */

/** One size of share and how many of it are expected. */
export interface ShareDemand {
  /** 1–999. */
  readonly milli: number;
  /** Above 0. */
  readonly count: number;
}

/** Open gaps of one size. */
export interface GapStock {
  /** 1–999. */
  readonly milli: number;
  readonly count: number;
}

/** φ: index g holds the worth, in thousandths of a GPU, of g free thousandths; φ[1000] = 1000. */
export type GapPrices = Int32Array;

/** A column of the program: what one rod is cut into, as [row, amount]. */
type Column = readonly (readonly [number, number])[];

const tolerance = 1e-9;
/** A column enters only where it gains more than this: below, degenerate pivots wander. */
const leastGain = 1e-7;

/** Computes the gap prices of a demand; without any, only whole GPUs have worth. */
export function gapPrices(
  demands: readonly ShareDemand[],
  stock: readonly GapStock[] = [],
): GapPrices {
  const sizes = demands.toSorted((a, b) => a.milli - b.milli);
  const step = sizes.reduce((gcd, { milli }) => divisor(gcd, milli), 1000);
  const cells = 1000 / step;
  const widths = sizes.map(({ milli }) => milli / step);
  const counts = new Map<number, number>();
  for (const { milli, count } of stock) {
    const width = Math.floor(milli / step);
    if (width >= (widths[0] ?? cells)) counts.set(width, (counts.get(width) ?? 0) + count);
  }
  const gaps = [...counts].sort(([a], [b]) => a - b);
  const program = new Program({ cells, widths, wanted: sizes.map(({ count }) => count), gaps });
  const { worth } = bestFill(program.solve(), widths, cells);
  const full = Math.max(1, worth[cells]!);
  const prices = new Int32Array(1001);
  for (let gap = 0; gap <= 1000; gap++) {
    prices[gap] = Math.round((1000 * worth[Math.floor(gap / step)]!) / full);
  }
  prices[1000] = 1000;
  return prices;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/**
 * Least number of fresh GPUs for all wanted shares, open gaps being free: revised simplex
 * over rows of shares (cover what is wanted) and rows of gaps (use what there is).
 */
class Program {
  private readonly cells: number;
  private readonly widths: readonly number[];
  private readonly gaps: readonly (readonly [number, number])[];
  private readonly rows: number;
  private readonly inverse: Float64Array[] = [];
  private readonly amount: Float64Array;
  /** 1 for a basic column that opens a fresh GPU. */
  private readonly cost: Float64Array;
  private readonly direction: Float64Array;

  constructor(problem: {
    readonly cells: number;
    /** Share sizes in cells, ascending. */
    readonly widths: readonly number[];
    readonly wanted: readonly number[];
    /** [size in cells, count], ascending. */
    readonly gaps: readonly (readonly [number, number])[];
  }) {
    this.cells = problem.cells;
    this.widths = problem.widths;
    this.gaps = problem.gaps;
    const shares = this.widths.length;
    this.rows = shares + this.gaps.length;
    this.amount = new Float64Array(this.rows);
    this.cost = new Float64Array(this.rows);
    this.direction = new Float64Array(this.rows);
    const total = problem.wanted.reduce((sum, count) => sum + count, 0);
    for (let row = 0; row < this.rows; row++) {
      const line = new Float64Array(this.rows);
      const share = row < shares;
      line[row] = share ? 1 / Math.floor(this.cells / this.widths[row]!) : 1;
      const count = share ? problem.wanted[row]! : this.gaps[row - shares]![1];
      this.amount[row] = (count / total) * line[row]!;
      this.cost[row] = share ? 1 : 0;
      this.inverse.push(line);
    }
  }

  /** The price of each share, in fresh GPUs. */
  solve(): Float64Array {
    const shares = this.widths.length;
    const duals = new Float64Array(this.rows);
    const prices = new Float64Array(shares);
    for (let round = 0; round < 40 * this.rows; round++) {
      duals.fill(0);
      for (let row = 0; row < this.rows; row++) {
        if (this.cost[row] === 0) continue;
        const line = this.inverse[row]!;
        for (let i = 0; i < this.rows; i++) duals[i]! += line[i]!;
      }
      for (let i = 0; i < shares; i++) prices[i] = Math.max(0, duals[i]!);
      const entering = this.entering(duals, prices);
      if (entering === undefined || !this.exchange(entering.column, entering.cost)) break;
    }
    return prices;
  }

  /** The column that gains most: a pattern for a fresh GPU, one for a gap, or an idle gap. */
  private entering(
    duals: Float64Array,
    prices: Float64Array,
  ): { readonly column: Column; readonly cost: number } | undefined {
    const shares = this.widths.length;
    const { worth, last } = bestFill(prices, this.widths, this.cells);
    let gain = Math.max(leastGain, worth[this.cells]! - 1);
    let cut = gain > leastGain ? this.cells : -1;
    let gapRow = -1;
    let idleRow = -1;
    for (const [gap, [size]] of this.gaps.entries()) {
      const dual = duals[shares + gap]!;
      if (worth[size]! + dual > gain) {
        gain = worth[size]! + dual;
        cut = size;
        gapRow = shares + gap;
      }
      if (dual > gain) {
        gain = dual;
        idleRow = shares + gap;
        cut = -1;
      }
    }
    if (cut >= 0) {
      const pattern = unpack(last, this.widths, cut);
      return gapRow < 0
        ? { column: pattern, cost: 1 }
        : { column: [...pattern, [gapRow, 1]], cost: 0 };
    }
    return idleRow < 0 ? undefined : { column: [[idleRow, 1]], cost: 0 };
  }

  /** Brings a column into the basis; false where nothing limits it. */
  private exchange(column: Column, cost: number): boolean {
    const { inverse, amount, direction } = this;
    let leaving = -1;
    let step = Number.POSITIVE_INFINITY;
    for (let row = 0; row < this.rows; row++) {
      const line = inverse[row]!;
      let sum = 0;
      for (const [at, copies] of column) sum += line[at]! * copies;
      direction[row] = sum;
      if (sum > tolerance && amount[row]! / sum < step) {
        step = amount[row]! / sum;
        leaving = row;
      }
    }
    if (leaving < 0) return false;
    const line = inverse[leaving]!;
    const scale = 1 / direction[leaving]!;
    for (let i = 0; i < this.rows; i++) line[i]! *= scale;
    for (let row = 0; row < this.rows; row++) {
      const factor = direction[row]!;
      if (row === leaving || factor === 0) continue;
      const other = inverse[row]!;
      for (let i = 0; i < this.rows; i++) other[i]! -= factor * line[i]!;
      amount[row] = Math.max(0, amount[row]! - factor * step);
    }
    amount[leaving] = step;
    this.cost[leaving] = cost;
    return true;
  }
}

/** Unbounded knapsack: the best worth for each number of cells, and the piece that reached it. */
function bestFill(
  prices: Float64Array,
  widths: readonly number[],
  cells: number,
): { readonly worth: Float64Array; readonly last: Int32Array } {
  const worth = new Float64Array(cells + 1);
  const last = new Int32Array(cells + 1).fill(-1);
  for (let at = 1; at <= cells; at++) {
    worth[at] = worth[at - 1]!;
    for (let piece = 0; piece < widths.length && widths[piece]! <= at; piece++) {
      const reached = worth[at - widths[piece]!]! + prices[piece]!;
      if (reached > worth[at]! + 1e-12) {
        worth[at] = reached;
        last[at] = piece;
      }
    }
  }
  return { worth, last };
}

/** The pieces of the best fill of some cells. */
function unpack(last: Int32Array, widths: readonly number[], cells: number): [number, number][] {
  const copies = new Map<number, number>();
  for (let at = cells; at > 0;) {
    const piece = last[at]!;
    if (piece < 0) at--;
    else {
      copies.set(piece, (copies.get(piece) ?? 0) + 1);
      at -= widths[piece]!;
    }
  }
  return [...copies];
}

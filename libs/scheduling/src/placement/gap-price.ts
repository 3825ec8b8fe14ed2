/**
 * What a gap on a GPU is worth to the workload's shares.
 *
 * Shares fill GPUs as pieces fill rods in the cutting-stock problem. The dual of its linear
 * program prices each share by what it really costs in GPUs, and a gap is worth the best
 * set of shares that fits it: a gap that no share fits is worth nothing, and a share that
 * goes into it is free. Column generation after Gilmore and Gomory (1961).
 */

/** One size of share and how often it is asked for. */
export interface ShareDemand {
  /** 1–999. */
  readonly milli: number;
  /** Above 0. */
  readonly count: number;
}

/** φ: index g holds the worth, in thousandths of a GPU, of g free thousandths; φ[1000] = 1000. */
export type GapPrices = Int32Array;

const tolerance = 1e-9;

/** Computes the gap prices of a demand; without any, only whole GPUs have worth. */
export function gapPrices(demands: readonly ShareDemand[]): GapPrices {
  const sizes = demands.toSorted((a, b) => a.milli - b.milli);
  const step = sizes.reduce((gcd, { milli }) => divisor(gcd, milli), 1000);
  const cells = 1000 / step;
  const widths = sizes.map(({ milli }) => milli / step);
  const counts = sizes.map(({ count }) => count);
  const worth = bestFill(sharePrices(widths, counts, cells), widths, cells).worth;
  const full = worth[cells]! > 0 ? worth[cells]! : 1;
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

/** Dual prices π of min Σ y, Σ y·pattern ≥ count, by revised simplex with generated columns. */
function sharePrices(
  widths: readonly number[],
  counts: readonly number[],
  cells: number,
): Float64Array {
  const size = widths.length;
  const inverse = widths.map((width, row) => {
    const line = new Float64Array(size);
    line[row] = 1 / Math.floor(cells / width);
    return line;
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const amount = Float64Array.from(counts, (count, row) => (count / total) * inverse[row]![row]!);
  const prices = new Float64Array(size);
  const direction = new Float64Array(size);
  for (let round = 0; round < 40 * size; round++) {
    prices.fill(0);
    for (const line of inverse) for (let i = 0; i < size; i++) prices[i]! += line[i]!;
    for (let i = 0; i < size; i++) if (prices[i]! < 0) prices[i] = 0;
    const { worth, last } = bestFill(prices, widths, cells);
    if (worth[cells]! <= 1 + tolerance) break;
    const pattern = unpack(last, widths, cells);
    let leaving = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < size; row++) {
      const line = inverse[row]!;
      let sum = 0;
      for (const [i, copies] of pattern) sum += line[i]! * copies;
      direction[row] = sum;
      if (sum > tolerance && amount[row]! / sum < least) {
        least = amount[row]! / sum;
        leaving = row;
      }
    }
    if (leaving < 0) break;
    pivot({ inverse, amount, direction, leaving, step: Math.max(0, least) });
  }
  return prices;
}

function pivot(options: {
  readonly inverse: readonly Float64Array[];
  readonly amount: Float64Array;
  readonly direction: Float64Array;
  readonly leaving: number;
  readonly step: number;
}): void {
  const { inverse, amount, direction, leaving, step } = options;
  const line = inverse[leaving]!;
  const scale = 1 / direction[leaving]!;
  for (let i = 0; i < line.length; i++) line[i]! *= scale;
  for (let row = 0; row < inverse.length; row++) {
    if (row === leaving) continue;
    const factor = direction[row]!;
    if (factor === 0) continue;
    const other = inverse[row]!;
    for (let i = 0; i < line.length; i++) other[i]! -= factor * line[i]!;
    amount[row] = Math.max(0, amount[row]! - factor * step);
  }
  amount[leaving] = step;
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

/** The pieces of the best fill of all cells, as [piece, copies]. */
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

import { escapeHtml } from "./escape.ts";

/** One line of a plot; x is a time in milliseconds: since the epoch, or since a start. */
export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
  /** Drawn in dashes; default: no. */
  readonly dashed?: boolean;
  /** Number of its colour; default: its place in the plot. */
  readonly colour?: number;
}

/** What a plot shows. */
export interface Plot {
  readonly title: string;
  readonly series: readonly Series[];
  /** How times are written below it: as dates, or as time since the first; default: dates. */
  readonly times?: "dates" | "elapsed";
}

const width = 960;
const height = 240;
const left = 56;
const bottom = 24;
const legendWidth = 226;
const legendColumns = 4;
const lineHeight = 16;
const colours = 7;
/** More points than this are thinned: a line has no more pixels. */
const maxPoints = 480;

/**
 * A line plot over time as one inline SVG element, the vertical axis from 0. Its colours are the page's variables
 * (page.ts); its description gives the range of each line to those who cannot see it.
 */
export function linePlot(plot: Plot): string {
  const points = plot.series.flatMap((series) => series.points);
  if (points.length === 0) return "<p>no data</p>";
  let firstX = Number.POSITIVE_INFINITY;
  let lastX = Number.NEGATIVE_INFINITY;
  let high = 0;
  for (const { x, y } of points) {
    firstX = Math.min(firstX, x);
    lastX = Math.max(lastX, x);
    high = Math.max(high, y);
  }
  const top = 12 + lineHeight * Math.ceil(plot.series.length / legendColumns);
  const ceiling = niceCeiling(high);
  const atX = (x: number): number =>
    left + ((x - firstX) / Math.max(1, lastX - firstX)) * (width - left - 8);
  const atY = (y: number): number => height - bottom - (y / ceiling) * (height - bottom - top);
  const lines = plot.series.map((series, index) => {
    const path = thin(series.points).map(({ x, y }) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`);
    return `<polyline fill="none" stroke-width="1.6"${dashes(series)} style="stroke:${colour(series, index)}" points="${path.join(" ")}"/>`;
  });
  const grid = [0, 0.5, 1].map((part) => {
    const y = atY(ceiling * part).toFixed(1);
    return `<line x1="${left}" x2="${width - 8}" y1="${y}" y2="${y}" style="stroke:var(--line)"/><text x="${left - 6}" y="${y}" dy="4" text-anchor="end">${label(ceiling * part)}</text>`;
  });
  const times = [firstX, (firstX + lastX) / 2, lastX].map((x, index) => {
    const anchor = index === 0 ? "start" : index === 1 ? "middle" : "end";
    const text = plot.times === "elapsed" ? elapsed(x - firstX, lastX - firstX) : date(x);
    return `<text x="${atX(x).toFixed(1)}" y="${height - 6}" text-anchor="${anchor}">${text}</text>`;
  });
  const legend = plot.series.map((series, index) => {
    const x = left + (index % legendColumns) * legendWidth;
    const y = 12 + Math.floor(index / legendColumns) * lineHeight;
    const stroke = `style="stroke:${colour(series, index)}"`;
    return `<line x1="${x}" x2="${x + 18}" y1="${y - 4}" y2="${y - 4}" stroke-width="2"${dashes(series)} ${stroke}/><text x="${x + 23}" y="${y}">${escapeHtml(shorten(series.name))}</text>`;
  });
  const title = escapeHtml(plot.title);
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title} over time" font-size="12"><title>${title} over time</title><desc>${escapeHtml(describe(plot.series))}</desc>${[...grid, ...times, ...legend, ...lines].join("")}</svg>`;
}

const colour = (series: Series, index: number): string =>
  `var(--s${(series.colour ?? index) % colours})`;

const dashes = (series: Series): string =>
  series.dashed === true ? ' stroke-dasharray="5 3"' : "";

const shorten = (name: string): string => (name.length > 30 ? `${name.slice(0, 29)}…` : name);

const date = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** Time since the start, in the unit of the whole. */
function elapsed(ms: number, wholeMs: number): string {
  const [unit, size] =
    wholeMs < 7_200_000
      ? ["min", 60_000]
      : wholeMs < 172_800_000
        ? ["h", 3_600_000]
        : ["d", 86_400_000];
  return `${Number((ms / Number(size)).toPrecision(3))} ${unit}`;
}

function describe(series: readonly Series[]): string {
  return series
    .map(({ name, points }) => {
      const values = points.map(({ y }) => y);
      const mean = values.reduce((sum, y) => sum + y, 0) / Math.max(1, values.length);
      const [least, most] = values.reduce(
        ([low, high], y) => [Math.min(low, y), Math.max(high, y)],
        [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      );
      return `${name}: from ${label(least)} to ${label(most)}, ${label(mean)} in the mean`;
    })
    .join("; ");
}

/** The mean of each run of neighbours, so that no more than `maxPoints` remain. */
function thin(points: Series["points"]): Series["points"] {
  const step = Math.ceil(points.length / maxPoints);
  if (step <= 1) return points;
  const thinned: { x: number; y: number }[] = [];
  for (let from = 0; from < points.length; from += step) {
    const part = points.slice(from, from + step);
    const y = part.reduce((sum, point) => sum + point.y, 0) / part.length;
    thinned.push({ x: part[0]!.x, y });
  }
  return thinned;
}

/** The least of 1, 2, 5 × 10ⁿ that is not below. */
function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((part) => part * power).find((nice) => nice >= value) ?? 10 * power;
}

function label(value: number): string {
  if (!Number.isFinite(value)) return "0";
  return value >= 1000
    ? `${Number((value / 1000).toPrecision(3))}k`
    : String(Number(value.toPrecision(3)));
}

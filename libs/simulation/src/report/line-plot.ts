import { escapeHtml } from "./escape.ts";

/** One line of a plot; x is a time in milliseconds since the epoch. */
export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

const width = 960;
const height = 240;
const left = 56;
const bottom = 24;
const top = 28;
/** Colours that stay apart for colour-blind readers (Okabe and Ito, 2008). */
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/** More points than this are thinned: a line has no more pixels. */
const maxPoints = 480;

/** A line plot over time as one inline SVG element, the vertical axis from 0. */
export function linePlot(plot: {
  readonly title: string;
  readonly series: readonly Series[];
}): string {
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
  const ceiling = niceCeiling(high);
  const atX = (x: number): number =>
    left + ((x - firstX) / Math.max(1, lastX - firstX)) * (width - left - 8);
  const atY = (y: number): number => height - bottom - (y / ceiling) * (height - bottom - top);
  const lines = plot.series.map(({ points: own }, index) => {
    const path = thin(own).map(({ x, y }) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`);
    return `<polyline fill="none" stroke-width="1.4" stroke="${colour(index)}" points="${path.join(" ")}"/>`;
  });
  const grid = [0, 0.5, 1].map((part) => {
    const y = atY(ceiling * part).toFixed(1);
    return `<line x1="${left}" x2="${width - 8}" y1="${y}" y2="${y}" stroke="#d8dee4"/><text x="${left - 6}" y="${y}" dy="4" text-anchor="end">${label(ceiling * part)}</text>`;
  });
  const dates = [firstX, (firstX + lastX) / 2, lastX].map((x, index) => {
    const anchor = index === 0 ? "start" : index === 1 ? "middle" : "end";
    return `<text x="${atX(x).toFixed(1)}" y="${height - 6}" text-anchor="${anchor}">${new Date(x).toISOString().slice(0, 10)}</text>`;
  });
  const legend = plot.series.map(
    ({ name }, index) =>
      `<text x="${left + index * 170}" y="14" fill="${colour(index)}">${escapeHtml(name)}</text>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(plot.title)} over time" font-size="12" fill="#57606a">${[...grid, ...dates, ...legend, ...lines].join("")}</svg>`;
}

const colour = (index: number): string => colours[index % colours.length]!;

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
  return value >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)));
}

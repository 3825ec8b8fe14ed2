import type { ReplayResult } from "../queueing/replay.ts";
import type { Sample } from "../queueing/recorder.ts";
import { linePlot } from "./line-plot.ts";
import { escapeHtml } from "./escape.ts";

/** Runs to show beside each other. */
export interface QueueReport {
  readonly title: string;
  readonly runs: readonly { readonly name: string; readonly result: ReplayResult }[];
}

/** What is plotted over time: name, what it says, and its value in a sample. */
const plots: readonly {
  readonly title: string;
  readonly unit: string;
  readonly value: (sample: Sample) => number;
}[] = [
  { title: "Utilisation", unit: "% of the GPUs", value: (sample) => sample.utilisation * 100 },
  { title: "Waiting", unit: "jobs", value: (sample) => sample.waitingJobs },
  {
    title: "Backlog",
    unit: "GPUs asked for by waiting jobs",
    value: (sample) => sample.waitingGpus,
  },
  { title: "Fairness", unit: "Jain's index over tenants", value: (sample) => sample.fairness },
  {
    title: "Fragmentation",
    unit: "% of the GPUs free on partly taken nodes",
    value: (sample) => sample.fragmentation * 100,
  },
];

const style = `body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #d8dee4}
th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto}h2{margin:2rem 0 .2rem;font-size:1.05rem}p{margin:.2rem 0;color:#57606a}`;

/** One self-contained HTML page: a table of the figures and plots over time, no scripts, nothing fetched. */
export function renderQueueReport(report: QueueReport): string {
  const figures = plots.map(({ title, unit, value }) => {
    const series = report.runs.map(({ name, result }) => ({
      name,
      points: result.samples.map((sample) => ({ x: sample.atMs, y: value(sample) })),
    }));
    return `<h2>${escapeHtml(title)}</h2><p>${escapeHtml(unit)}</p>${linePlot({ title, series })}`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(report.title)}</title><style>${style}</style></head>
<body><h1>${escapeHtml(report.title)}</h1>${table(report)}${figures.join("\n")}</body></html>
`;
}

function table(report: QueueReport): string {
  const head = [
    "run",
    "mean h",
    "p99 h",
    "longest wait h",
    "tenant ratio",
    "wide mean h",
    "preemptions",
  ];
  const rows = report.runs.map(({ name, result: { summary } }) => [
    name,
    summary.meanHours.toFixed(2),
    summary.p99Hours.toFixed(1),
    summary.longestWaitHours.toFixed(0),
    summary.tenantRatio.toFixed(2),
    summary.wideMeanHours.toFixed(1),
    String(summary.preemptions),
  ]);
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${cells("th", head)}${rows.map((row) => cells("td", row)).join("")}</table>`;
}

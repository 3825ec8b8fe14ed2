import type { ReplayResult } from "../queueing/replay.ts";
import type { Sample } from "../queueing/recorder.ts";
import { linePlot } from "./line-plot.ts";
import { escapeHtml } from "./escape.ts";
import { renderPage, renderTable } from "./page.ts";

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

/** One self-contained HTML page: a table of the figures and plots over time, no scripts, nothing fetched. */
export function renderQueueReport(report: QueueReport): string {
  const figures = plots.map(({ title, unit, value }) => {
    const series = report.runs.map(({ name, result }) => ({
      name,
      points: result.samples.map((sample) => ({ x: sample.atMs, y: value(sample) })),
    }));
    return `<h2>${escapeHtml(title)}</h2><p>${escapeHtml(unit)}</p>${linePlot({ title, series })}`;
  });
  return renderPage(report.title, [table(report), ...figures].join("\n"));
}

function table(report: QueueReport): string {
  const head = [
    "run",
    "mean h",
    "p99 h",
    "longest to start h",
    "longest beyond run time h",
    "tenant ratio",
    "wide mean h",
    "preemptions",
  ];
  const rows = report.runs.map(({ name, result: { summary } }) => [
    name,
    summary.meanHours.toFixed(2),
    summary.p99Hours.toFixed(1),
    summary.longestToStartHours.toFixed(1),
    summary.longestWaitHours.toFixed(0),
    summary.tenantRatio.toFixed(2),
    summary.wideMeanHours.toFixed(1),
    String(summary.preemptions),
  ]);
  return renderTable([head, ...rows]);
}

import { numberIn, readCsv } from "../openb/csv.ts";
import type { CsvResult, Fields } from "../openb/csv.ts";
import type { SimJob } from "../queueing/job.ts";

/** Longest run time that the reader takes for real, in seconds (ten years). */
const maxDurationS = 10 * 366 * 86_400;

/**
 * Reads jobs from a Philly-format table (timestamp, duration in seconds, num_gpus, cluster; Jeon et al., "Analysis of
 * Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads", USENIX ATC '19). Jobs come by submit time, those
 * of one second in the order of the file.
 */
export function readPhilly(file: string, text: string): CsvResult<SimJob> {
  const required = ["timestamp", "duration", "num_gpus", "cluster"];
  const result = readCsv({ file, text, required }, (fields) => ({
    submitMs: readTime(fields),
    durationMs: readDurationMs(fields),
    gpus: fields.integer("num_gpus", 1, 65_536),
    tenant: readTenant(fields),
  }));
  if (result.kind === "bad") return result;
  return { kind: "ok", rows: result.rows.toSorted((a, b) => a.submitMs - b.submitMs) };
}

function readTime(fields: Fields): number {
  const cell = fields.text("timestamp");
  const parts = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|\+00:?00)?$/.exec(
    cell,
  );
  if (parts === null) {
    fields.refuse("timestamp", `"${cell}" is not a time like 2017-10-09 07:01:55`);
    return 0;
  }
  const [year, month, day, hour, minute, second] = parts.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const time = Date.UTC(year, month - 1, day, hour, minute, second);
  if (new Date(time).toISOString().slice(0, 19) !== cell.slice(0, 19).replace(" ", "T")) {
    fields.refuse("timestamp", `"${cell}" is not a time of the calendar`);
  }
  return time;
}

/** Seconds, with or without a fraction; a run of less than one counts as one. */
function readDurationMs(fields: Fields): number {
  const cell = fields.text("duration");
  const seconds = numberIn(cell);
  if (Number.isNaN(seconds)) fields.refuse("duration", `"${cell}" is not a number of seconds`);
  else if (seconds < 0 || seconds > maxDurationS) {
    fields.refuse("duration", `${cell} is not in [0, ${maxDurationS}]`);
  }
  return Math.max(1_000, Math.round(seconds * 1_000));
}

function readTenant(fields: Fields): string {
  const tenant = fields.text("cluster");
  if (tenant === "") fields.refuse("cluster", "is empty");
  return tenant;
}

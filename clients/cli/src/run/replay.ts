import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { isForPeople, printOne } from "../output/print.ts";
import { progressLine } from "../output/progress-line.ts";
import { defaultDataDir } from "./data-dir.ts";

/** A decision came out otherwise than it was recorded. */
const mismatched = 1;

interface ReplayFlags extends CommonOptions {
  data?: string;
  from?: number;
  to?: number;
  policy?: string;
  price?: string;
  html?: string;
}

/** `scheduler replay [FILES] --policy FILE` */
async function replayWith(
  context: CliContext,
  options: ReplayFlags & { policy: string },
  files: readonly string[],
): Promise<number> {
  const signal = context.interruptible();
  const { whatIf } = await import("@fastgpu/platform/replay");
  const { checkPage, showSimulated, withProgress } = await import("./simulate.ts");
  await checkPage(options.html);
  const asked = {
    files,
    dataDir: options.data ?? defaultDataDir(context.env),
    fromMs: options.from,
    toMs: options.to,
    policy: options.policy,
    prices: options.price,
  };
  const simulated = await withProgress(context, (progress) => whatIf(asked, { signal, progress }));
  await showSimulated(context, options, simulated);
  return exitCodes.ok;
}

/** `scheduler replay [FILES]` */
export async function replay(
  context: CliContext,
  options: ReplayFlags,
  files: readonly string[],
): Promise<number> {
  if (options.policy !== undefined) {
    return await replayWith(context, { ...options, policy: options.policy }, files);
  }
  if (options.html !== undefined || options.price !== undefined) {
    throw new CliError("--html and --price go with --policy FILE", { exitCode: exitCodes.usage });
  }
  const { terminal } = context;
  const { replayRecordings } = await import("@fastgpu/platform/replay");
  type Report = Awaited<ReturnType<typeof replayRecordings>>;
  const run = async (): Promise<Report> => {
    using line = progressLine(terminal, "replaying");
    return await replayRecordings({
      files,
      dataDir: options.data ?? defaultDataDir(context.env),
      fromMs: options.from,
      toMs: options.to,
      onSegment: (path) => line.say(`replaying ${path}`),
    });
  };
  const report = await run();
  const replayed = report.segments.filter(({ refused }) => refused === undefined);
  const view = {
    columns: [
      { header: "recordings", value: () => String(replayed.length), align: "right" as const },
      { header: "cycles", value: () => String(report.cycles), align: "right" as const },
      { header: "decisions", value: () => String(report.decisions), align: "right" as const },
      { header: "mismatches", value: () => String(report.mismatches), align: "right" as const },
    ],
    id: () => String(report.mismatches),
    json: () => forJson(report),
  };
  await printOne(printOptions(context, options), view, report);
  for (const { path, refused, damage } of report.segments) {
    if (refused !== undefined) terminal.err(`${path} is left out: ${refused}\n`);
    else if (damage !== undefined)
      terminal.err(`${path} is damaged: ${damage}; replayed up to there\n`);
  }
  if (report.cycles === 0 && replayed.length > 0) {
    terminal.err(
      "no recorded cycle lies in that time: leave out --from and --to for all of them\n",
    );
  }
  if (isForPeople(printOptions(context, options))) tellFirst(context, report);
  if (report.mismatches > 0) return mismatched;
  return replayed.length === 0 ? exitCodes.refused : exitCodes.ok;
}

function tellFirst(
  { terminal }: CliContext,
  { firstMismatch: first }: { firstMismatch: FirstMismatch | undefined },
): void {
  if (first === undefined) return;
  const time = new Date(first.nowMs).toISOString();
  terminal.err(`\nfirst mismatch: cycle ${first.cycle} of ${first.path}, at ${time}\n`);
  for (const { part, recorded, replayed } of first.differences) {
    terminal.err(
      `  ${part}\n    recorded: ${shortly(recorded)}\n    replayed: ${shortly(replayed)}\n`,
    );
  }
}

interface FirstMismatch {
  readonly path: string;
  readonly cycle: number;
  readonly nowMs: number;
  readonly differences: readonly {
    readonly part: string;
    readonly recorded: unknown;
    readonly replayed: unknown;
  }[];
}

/** Values as JSON: maps as objects, and endless times as words. */
function forJson(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, each: unknown) => {
      if (each instanceof Map) return Object.fromEntries(each as ReadonlyMap<string, unknown>);
      return typeof each === "number" && !Number.isFinite(each) ? String(each) : each;
    }),
  );
}

const longest = 400;

function shortly(value: unknown): string {
  const text = JSON.stringify(forJson(value)) ?? "nothing";
  return text.length <= longest ? text : `${text.slice(0, longest)}… (${text.length} characters)`;
}

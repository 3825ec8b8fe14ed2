import { open, writeFile } from "node:fs/promises";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { isForPeople, printOne, type OutputFormat } from "../output/print.ts";
import { progressLine } from "../output/progress-line.ts";

/** How often a run without a terminal says how far it is. */
const LINE_EVERY_MS = 30_000;

/** Options of `scheduler simulate`. */
interface SimulateFlags {
  nodes: string;
  workload: string;
  policy?: string;
  compare?: string;
  faults?: string | true;
  queues?: string;
  seed?: number;
  until?: number;
  first?: number;
  speed?: number;
  racks?: number;
  sharing?: string;
  price?: string;
  cycle?: number;
  json?: boolean;
  html?: string;
  format?: OutputFormat;
  quiet?: boolean;
}

/** `scheduler simulate` */
export async function simulate(context: CliContext, flags: SimulateFlags): Promise<void> {
  const signal = context.interruptible();
  await checkPage(flags.html);
  const { runSimulation } = await import("@fastgpu/scheduler/simulate/run");
  const asked = {
    nodes: flags.nodes,
    workload: flags.workload,
    policy: flags.policy,
    compare: flags.compare,
    faults: flags.faults === true ? "usual" : flags.faults,
    queues: flags.queues,
    seed: flags.seed ?? 1,
    untilMs: flags.until,
    first: flags.first,
    speed: flags.speed ?? 1,
    racksOf: flags.racks ?? 0,
    sharing: flags.sharing,
    prices: flags.price,
    cycleMs: flags.cycle,
  };
  const simulated = await withProgress(context, (progress) =>
    runSimulation(asked, { signal, progress }),
  );
  await showSimulated(context, flags, simulated);
}

/** What {@link showSimulated} prints. */
interface Shown {
  readonly result: { readonly title: string };
  readonly text: string;
  page(): string;
}

/** Prints what a simulation gave, and writes its page where one is asked for. */
export async function showSimulated(
  { terminal }: CliContext,
  flags: Pick<SimulateFlags, "html" | "json" | "format" | "quiet">,
  simulated: Shown,
): Promise<void> {
  const format = flags.json === true ? "json" : flags.format;
  const print = { terminal, format, quiet: flags.quiet === true };
  if (isForPeople(print)) terminal.out(simulated.text);
  else {
    await printOne(
      print,
      { columns: [], id: ({ title }) => title, json: (result) => result },
      simulated.result,
    );
  }
  if (flags.html === undefined) return;
  await writeFile(flags.html, simulated.page()).catch(cannotWrite(flags.html));
  terminal.err(`the page is ${flags.html}\n`);
}

/** Refuses a page that cannot be written before the simulation, which may take an hour, and not after it. */
export async function checkPage(file: string | undefined): Promise<void> {
  if (file === undefined) return;
  const page = await open(file, "a").catch(cannotWrite(file));
  await page.close();
}

const cannotWrite =
  (file: string) =>
  (cause: unknown): never => {
    throw new CliError(`cannot write ${file}`, {
      why: cause instanceof Error ? cause.message : String(cause),
      hint: "--html with a file in a directory that exists and that you may write to",
      exitCode: exitCodes.notAllowed,
      cause,
    });
  };

/** How far a simulation is. */
interface Progress {
  readonly policy: string;
  readonly ended: number;
  readonly tasks: number;
}

/** Plays with a line that says how far it is: on a terminal it changes, elsewhere a new one comes now and then. */
export async function withProgress<T>(
  { terminal, nowMs }: CliContext,
  play: (progress: (now: Progress) => void) => Promise<T>,
): Promise<T> {
  using line = progressLine(terminal, "simulating");
  let nextMs = nowMs() + LINE_EVERY_MS;
  return await play(({ policy, ended, tasks }) => {
    const percent = Math.floor((100 * ended) / Math.max(1, tasks));
    const text = `simulating ${policy}: ${ended} of ${tasks} tasks have ended, ${percent} %`;
    line.say(text);
    if (terminal.errIsTty || nowMs() < nextMs) return;
    nextMs = nowMs() + LINE_EVERY_MS;
    terminal.err(`${text}\n`);
  });
}

import { type Api, withApi } from "../api/connect.ts";
import { configPath } from "../config/file.ts";
import { keepOwnContext, ownContext } from "../config/own-platform.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { renderReport, reportOf } from "../errors/report.ts";
import { lastPart, shortDuration } from "../output/values.ts";
import { VERSION } from "../version.ts";
import { showFirstTask } from "./first-task.ts";
import { watchToEnd } from "./follow.ts";
import type { RunningPlatform } from "./platform-port.ts";
import { exitCodeOfTask } from "./task-exit.ts";

const LEAVING =
  "\nstopping; tasks that run as processes go on until their leases end, and a restart takes them up again\n";

/** What `start` adds to starting: when it began, and what it was asked for. */
export interface StartOptions {
  startedMs: number;
  once: boolean;
  /** Whether the platform ends running tasks when it stops. */
  stopsTasks: boolean;
  signal: AbortSignal;
}

/**
 * Shows a platform that serves: where it is, its key, its first task, and what to try next. Returns
 * the exit code after `--once` or Ctrl-C; the platform is stopped by then.
 */
export async function showPlatform(
  context: CliContext,
  platform: RunningPlatform,
  options: StartOptions,
): Promise<number> {
  const { terminal } = context;
  const { once, stopsTasks, signal } = options;
  terminal.out(
    `FastGPU ${VERSION} is ready after ${shortDuration(context.nowMs() - options.startedMs)}.\n`,
  );
  const key = introduce(context, platform);
  let exitCode: number = exitCodes.ok;
  try {
    if (key !== undefined && (once || platform.firstKey !== undefined)) {
      const shown = firstTask({ context, platform, key, once, signal });
      exitCode = await Promise.race([
        once ? shown : shown.catch(tellFailure(context)),
        platform.failed,
      ]);
    } else if (once) {
      throw new CliError("there is no key for this platform", {
        why: `its first start gave the key to a context of another configuration file than ${configPath(context.env)}`,
        hint: "set FASTGPU_API_KEY, or FASTGPU_CONFIG to that file",
        exitCode: exitCodes.notAllowed,
      });
    }
    if (!once && !signal.aborted) {
      tellNext(context);
      await Promise.race([aborted(signal), platform.failed]);
    }
  } finally {
    terminal.err(once || stopsTasks ? "\nstopping\n" : LEAVING);
    await platform.stop();
  }
  return exitCode;
}

/** Prints where the platform is and keeps its key; returns the key to use. */
function introduce(context: CliContext, platform: RunningPlatform): string | undefined {
  const { terminal, env } = context;
  const { address, dataDir, firstKey } = platform;
  const path = configPath(env);
  const kept = ownContext(path, dataDir);
  const key = firstKey?.key ?? env["FASTGPU_API_KEY"] ?? kept?.context.key;
  terminal.out(`  data      ${dataDir}\n`);
  terminal.out(`  API       ${address}  gRPC, gRPC-Web, Connect and JSON on one port\n`);
  terminal.out(`  console   http://${address}/\n`);
  if (firstKey !== undefined) {
    const { organization, project } = firstKey;
    const name = keepOwnContext(path, dataDir, {
      address,
      key: firstKey.key,
      organization,
      project,
    });
    terminal.out(`  key       ${firstKey.key}\n`);
    terminal.out(`            shown this once, and kept as context "${name}" in ${path}\n`);
  } else if (kept !== undefined) {
    const name = keepOwnContext(path, dataDir, { address });
    terminal.out(`  key       that of context "${name}" in ${path}\n`);
  }
  return key;
}

async function firstTask(options: {
  context: CliContext;
  platform: RunningPlatform;
  key: string;
  once: boolean;
  signal: AbortSignal;
}): Promise<number> {
  const { context, platform, key, once, signal } = options;
  const env = { ...context.env, FASTGPU_ADDRESS: platform.address, FASTGPU_API_KEY: key };
  const { terminal } = context;
  const show = async (api: Api): Promise<number> => {
    const shown = await showFirstTask({ api, terminal, signal });
    if (once) await waitForTasks({ api, terminal, signal });
    if (shown === undefined) return exitCodes.interrupted;
    if (once && !shown.billed) throw unbilled();
    return exitCodeOfTask(shown.task);
  };
  return await withApi({ ...context, env }, {}, show);
}

/** A first task that went wrong is told of; it is no reason to take the platform away. */
function tellFailure({ terminal }: CliContext): (error: unknown) => number {
  return (error) => {
    const report = reportOf(error);
    terminal.err(renderReport(report, terminal.paintErr.red));
    return report.exitCode;
  };
}

function unbilled(): CliError {
  return new CliError("the first task's bill is not complete", {
    why: "some of its usage was not rated in time",
    hint: "fastgpu billing usage, and the log of the service billing",
    exitCode: exitCodes.unavailable,
  });
}

/** States in which a task is on a worker. */
const ON_A_WORKER = ["SCHEDULED", "STARTING", "RUNNING", "STOPPING", "FINALIZING"];

/** Waits for the end of every task of the project that is on a worker. */
async function waitForTasks(follow: {
  api: Api;
  terminal: CliContext["terminal"];
  signal: AbortSignal;
}): Promise<void> {
  const parent = await follow.api.project();
  for (const state of ON_A_WORKER) {
    const { tasks } = await follow.api.tasks.listTasks({
      parent,
      filter: `state = ${state}`,
      pageSize: 1000,
    });
    for (const { name } of tasks) {
      follow.terminal.err(`waiting for ${lastPart(name)}\n`);
      await watchToEnd({ ...follow, name }, () => undefined);
    }
  }
}

function tellNext(context: CliContext): void {
  context.terminal.out(
    "\nTry next, in another terminal:\n" +
      "  npx fastgpu task run --gpus 1 -- sh -c 'echo hello from $FASTGPU_TASK'\n" +
      "  npx fastgpu task list\n" +
      "  npx fastgpu billing usage -o wide\n" +
      "docs/tour.md goes on from here. Ctrl-C stops the platform.\n",
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

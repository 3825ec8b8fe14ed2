import { setTimeout as sleep } from "node:timers/promises";
import { bootMs } from "../boot-time.ts";
import type { Outcome } from "../runtime/port.ts";
import { readPipe } from "./pipes.ts";
import {
  type LiveRun,
  type RunContext,
  createLineSplitter,
  createStopper,
  leaseWarningMs,
  maxTimerMs,
  oomKills,
} from "./run.ts";
import { watchProgressFile } from "./progress-file.ts";

/** Runs one command as one attempt, in its sandbox. */
export function startSingle(context: RunContext): LiveRun {
  const { launch, log, sandbox } = context;
  const { group } = sandbox;
  const { depth } = sandbox.begin(context.files.script, {
    workdir: context.workdir,
    env: launch.env,
    command: [context.program, ...launch.command.slice(1)],
    // In a PID namespace the first process gets no default signal action: a shell keeps that place.
    how: sandbox.inNamespaces ? "child" : "replace",
    checkpoints: launch.checkpoints,
  });
  sandbox.control.end();
  context.memory?.add(group.pid, depth);
  const readers = [
    readPipe(sandbox.outFd, (data) => append("stdout", data)),
    readPipe(sandbox.errFd, (data) => append("stderr", data)),
  ];
  function append(stream: "stdout" | "stderr", data: Buffer): void {
    log.append({ stream, data });
    context.onLog();
  }
  group.child.stdio[3]?.on("data", createLineSplitter(context.onProgress));
  group.child.stdio[3]?.on("error", () => undefined);
  const progressFile = watchProgressFile(launch.env["FASTGPU_PROGRESS_FILE"], context.onProgress);
  const stopper = createStopper(group);
  const timer =
    launch.timeoutMs === 0
      ? undefined
      : setTimeout(
          () => {
            stopper.begin("timeout", { signal: launch.stopSignal, graceMs: launch.graceMs });
          },
          Math.min(maxTimerMs, launch.timeoutMs),
        );
  const finish = async (): Promise<Outcome> => {
    const { code } = await group.exited;
    // From here on nothing was delivered: an exit seen before the stop keeps its class.
    stopper.end();
    clearTimeout(timer);
    const oom = oomKills(context) > 0;
    const watched = code !== 0 && (context.memory?.kills ?? 0) > 0;
    await group.sweep();
    await Promise.race([Promise.all(readers.map((reader) => reader.ended)), sleep(1_000)]);
    for (const reader of readers) {
      reader.drain();
      reader.close();
    }
    progressFile.close();
    return {
      cause: stopper.cause ?? "exit",
      exitCode: code,
      oom,
      stopReason: stopper.reason,
      message: watched ? overWatchedLimit(launch.limits.memoryMib) : "",
      endedBootMs: bootMs(),
      elements: undefined,
    };
  };
  return {
    pid: group.pid,
    isolation: sandbox.isolation,
    stop: (request) => stopper.begin("stop", request),
    expire: (soon) => {
      stopper.begin("lease", { signal: launch.stopSignal, graceMs: soon ? leaseWarningMs : 0 });
    },
    done: finish(),
  };
}

function overWatchedLimit(memoryMib: number): string {
  return `a process of the task was killed: together they held more than their ${memoryMib} MiB (memory is watched by sampling here, without a control group)`;
}

import { setTimeout as sleep } from "node:timers/promises";
import { bootMs } from "../boot-time.ts";
import type { Outcome } from "../runtime/port.ts";
import { startGroup } from "./group.ts";
import { closeQuietly, readPipe } from "./pipes.ts";
import {
  type LiveRun,
  type RunContext,
  createLineSplitter,
  createStopper,
  leaseWarningMs,
  maxTimerMs,
  oomKills,
} from "./run.ts";
import { initScript, sandboxCommand } from "./sandbox.ts";
import { watchProgressFile } from "./progress-file.ts";

/** Runs one command as one attempt. Rejects where the sandbox itself cannot be started. */
export async function startSingle(context: RunContext): Promise<LiveRun> {
  const { launch, host, log } = context;
  const inNamespaces = host.unshare.length > 0;
  const task = [context.program, ...launch.command.slice(1)];
  const sandbox = sandboxCommand({
    ...context,
    joins: context.cgroup?.joins ?? [],
    // In a PID namespace the first process gets no default signal action: a shell takes that place.
    command: inNamespaces ? [host.sh, "-c", initScript, "sh", ...task] : task,
  });
  const [out, err] = await context.takePipes(2);
  if (out === undefined || err === undefined) throw new Error("no pipes");
  const sandboxDepth = inNamespaces ? 2 : 0;
  const group = await startGroup({
    command: sandbox.command,
    env: launch.env,
    stdio: ["ignore", out.writeFd, err.writeFd, "pipe"],
    cgroups: context.cgroup?.dirs ?? [],
    sandboxDepth,
  }).finally(() => {
    closeQuietly(out.writeFd);
    closeQuietly(err.writeFd);
  });
  context.memory?.add(group.pid, sandboxDepth);
  const readers = [
    readPipe(out.readFd, (data) => append("stdout", data)),
    readPipe(err.readFd, (data) => append("stderr", data)),
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

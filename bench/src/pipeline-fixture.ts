/** A platform beside the experiment: clients for it, and its death by kill -9. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { freePort } from "@fastgpu/lifecycle/child";
import { openPool, type Pool } from "@fastgpu/postgres/pool";
import { createChannel, type Channel } from "@fastgpu/rpc/channel";
import { createClient, type Client } from "@fastgpu/rpc/client";
import { createLogger } from "@fastgpu/telemetry/log";
import type { PlatformSetting, StartedPlatform } from "./pipeline-setting.ts";

/** A platform of an experiment's own. */
export interface Fixture extends AsyncDisposable {
  /** `projects/{project}` */
  readonly parent: string;
  /** TaskService through the gateway, with an API key. */
  readonly gateway: Client<typeof TaskService>;
  /** TaskService at the scheduler's own socket, with an access token. */
  readonly direct: Client<typeof TaskService>;
  /** Reads every schema, as the auditor does. */
  readonly reader: Pool;
  readonly started: StartedPlatform;
  /** Process id of the platform's first process. */
  readonly pid: number;
  /** kill -9 of every process of it at once, the database's and the broker's included. */
  kill(): Promise<void>;
  /** Starts it again on the same data; answers the seconds until it was ready. */
  restart(): Promise<number>;
}

export const quietLog = createLogger({ service: "bench", level: "silent" });

interface Child {
  readonly process: ChildProcess;
  readonly told: StartedPlatform;
}

async function start(setting: PlatformSetting): Promise<Child> {
  const program = fileURLToPath(new URL("./pipeline-platform.ts", import.meta.url));
  const args = ["--disable-warning=ExperimentalWarning", program];
  const child = spawn(process.execPath, [...args, JSON.stringify(setting)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const line = await Promise.race([
    once(lines, "line").then(([text]) => text as string),
    once(child, "exit").then(() => undefined),
  ]);
  if (line === undefined) throw new Error("the platform did not start");
  return { process: child, told: JSON.parse(line) as StartedPlatform };
}

/** Starts a platform on free ports, durable as it is shipped, its data in a folder that goes with it. */
export async function startFixture(
  options: Omit<PlatformSetting, "directory" | "ports">,
): Promise<Fixture> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o711);
  const [gateway, workers, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
  const setting = { ...options, directory, ports: { gateway, workers, metrics } };
  let child = await start(setting);
  stack.defer(() => stop(child.process));
  const key = child.told.firstKey ?? "";
  const { address, sockets } = child.told;
  const adopt = (channel: Channel): Channel => stack.adopt(channel, (each) => each.close());
  const auth = createClient(
    TokenService,
    adopt(createChannel({ address: `unix:${join(sockets, "auth.sock")}` })),
  );
  const keyed = adopt(createChannel({ address, token: () => Promise.resolve(key) }));
  const token = tokenSource(async () => {
    const answer = await auth.exchangeToken({ credential: { case: "apiKey", value: key } });
    return answer.accessToken;
  });
  const direct = adopt(
    createChannel({ address: `unix:${join(sockets, "scheduler.sock")}`, token }),
  );
  let reader = openReader(child.told);
  stack.defer(() => reader[Symbol.asyncDispose]());
  const owned = stack.move();
  return {
    parent: `projects/${child.told.project}`,
    gateway: createClient(TaskService, keyed),
    direct: createClient(TaskService, direct),
    get reader() {
      return reader;
    },
    get started() {
      return child.told;
    },
    get pid() {
      return child.process.pid ?? 0;
    },
    async kill() {
      const exited = once(child.process, "exit");
      for (const pid of [child.process.pid ?? 0, ...child.told.pids]) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It is gone already.
        }
      }
      await exited;
    },
    async restart() {
      const begun = performance.now();
      await reader[Symbol.asyncDispose]();
      child = await start(setting);
      reader = openReader(child.told);
      return (performance.now() - begun) / 1000;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function openReader(told: StartedPlatform): Pool {
  return openPool({
    url: told.auditorUrl,
    name: "bench",
    log: quietLog,
    max: 1,
    statementTimeoutMs: 600_000,
  });
}

/** An access token lives for 15 minutes: exchanged again after ten. */
function tokenSource(exchange: () => Promise<string>): () => Promise<string> {
  let kept: { token: Promise<string>; at: number } | undefined;
  return () => {
    if (kept === undefined || performance.now() - kept.at > 600_000) {
      kept = { token: exchange(), at: performance.now() };
    }
    return kept.token;
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.stdin?.end();
  await exited;
}

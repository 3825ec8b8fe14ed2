/** Slurm of one node on this machine, for `--with-slurm`: Debian's package, its daemons in the foreground. */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "@fastgpu/lifecycle/child";

const exec = promisify(execFile);

function configuration(directory: string, ports: readonly [number, number], cores: number): string {
  const host = hostname().split(".")[0] ?? "localhost";
  return `ClusterName=bench
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${directory}/munge.socket
StateSaveLocation=${directory}/state
SlurmdSpoolDir=${directory}/spool
SlurmctldPidFile=${directory}/slurmctld.pid
SlurmdPidFile=${directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,default_queue_depth=1000,batch_sched_delay=0
MaxArraySize=100001
MaxJobCount=200000
MinJobAge=10
ReturnToService=2
NodeName=${host} NodeAddr=127.0.0.1 CPUs=${cores} State=UNKNOWN
PartitionName=bench Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:1
`;
}

/** Installs Slurm where it is missing, starts it, and points SLURM_CONF at it; stops it when disposed. */
export async function installSlurm(): Promise<AsyncDisposable> {
  if (process.getuid?.() !== 0) throw new Error("--with-slurm needs root");
  const packages = ["slurmctld", "slurmd", "slurm-client", "munge"];
  // The daemons are ours to start, not the package's.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  await exec("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], {
    env,
    timeout: 300_000,
  });
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-slurm-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o755);
  await mkdir(join(directory, "state"));
  await mkdir(join(directory, "spool"));
  const key = join(directory, "munge.key");
  await writeFile(key, randomBytes(1024), { mode: 0o600 });
  await chown(key, 0, 0);
  const ports = [await freePort(), await freePort()] as const;
  const conf = join(directory, "slurm.conf");
  await writeFile(conf, configuration(directory, ports, availableParallelism()));
  process.env["SLURM_CONF"] = conf;
  const start = (command: string, args: string[]): ChildProcess => {
    const child = spawn(command, args, { stdio: "ignore", env: process.env });
    stack.defer(() => ended(child));
    return child;
  };
  const munge = ["--key-file", key, "--socket", join(directory, "munge.socket")];
  const files = [
    "--pid-file",
    join(directory, "munge.pid"),
    "--log-file",
    join(directory, "munge.log"),
  ];
  start("munged", [
    "--foreground",
    "--force",
    ...munge,
    ...files,
    "--seed-file",
    join(directory, "seed"),
  ]);
  start("slurmctld", ["-D", "-f", conf]);
  start("slurmd", ["-D", "-f", conf]);
  await untilIdle();
  return stack.move();
}

async function untilIdle(): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const state = await exec("sinfo", ["--noheader", "--format=%T"], { timeout: 5_000 }).catch(
      () => ({ stdout: "" }),
    );
    if (state.stdout.trim() === "idle") return;
    if (tries > 60) throw new Error(`Slurm does not become idle: "${state.stdout.trim()}"`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 3_000);
  await exited;
  clearTimeout(timer);
}

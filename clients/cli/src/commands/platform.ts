import { keyValue, wholeNumber } from "../parse/quantities.ts";
import type { Runner } from "./define.ts";
import { addOutputOptions } from "./define.ts";

const SERVICE_EXAMPLES = `
Services: auth, scheduler, worker, billing, monitor, storage, gateway.

A service's settings are its section of fastgpu.yaml, or variables such as
FASTGPU_WORKER__JOIN_TOKEN, or --set joinToken=TOKEN. A worker for a platform elsewhere:
  fastgpu service worker --set directory=/var/lib/fastgpu-worker --set joinToken=TOKEN \\
    --set scheduler=HOST:7601 --set auth=HOST:PORT --set storage=HOST:PORT \\
    --set natsUrl=nats://HOST:PORT
On the platform "fastgpu node invite" makes the token.
`;

/** Commands that run or look after a platform on this machine. */
export function addPlatformCommands(runner: Runner): void {
  const start = runner.local("start", "run the whole platform on this machine, with a first task");
  start.command
    .option("--once", "end after the first task's bill")
    .option("--data <directory>", "data directory")
    .option("--config <file>", "fastgpu.yaml")
    .option("--split", "each service in a process of its own")
    .option(
      "--gpus <n>",
      "simulated GPUs where there is no real one; default 2",
      wholeNumber(0, 1024),
    )
    .option("--runtime <list>", "auto, or a list of container, process and noop")
    .option(
      "--port <n>",
      "gateway's port; workers' port and metrics follow it; default 7600",
      wholeNumber(1, 65_533),
    )
    .option("--workers <n>", "workers on this machine; default 1", wholeNumber(1, 16))
    .option(
      "--stop-tasks",
      "on Ctrl-C end running tasks first, in place of leaving them to a restart",
    );
  start.run(async () => ({ run: (await import("../run/platform.ts")).start }));

  const service = runner.local("service", "run one service by name");
  service.command
    .argument("<name>", "the service")
    .option("--config <file>", "fastgpu.yaml")
    .option("--set <key=value>", "a setting of the service; repeatable", keyValue())
    .addHelpText("after", SERVICE_EXAMPLES);
  service.run(async () => ({ run: (await import("../run/platform.ts")).service }));

  const migrate = runner.local("migrate", "bring a data directory's tables up to this version");
  migrate.command.option("--data <directory>", "data directory");
  migrate.run(async () => ({ run: (await import("../run/platform.ts")).migrate }));

  const reset = runner.local("reset", "empty a data directory");
  reset.command.option("--data <directory>", "data directory").option("-y, --yes", "do not ask");
  reset.run(async () => ({ run: (await import("../run/platform.ts")).reset }));

  const doctor = runner.local("doctor", "check what this machine has and lacks");
  addOutputOptions(doctor.command)
    .option("--data <directory>", "data directory")
    .option("--gpu", "check the GPUs: driver, inventory, and a real computation on each");
  doctor.run(async () => ({ run: (await import("../run/doctor.ts")).doctor }));

  const db = runner.group("db", "the platform's databases");
  const psql = db.local("psql", "open a service's tables in psql, or print how to connect");
  psql.command.argument("<service>").option("--data <directory>", "data directory");
  psql.run(async () => ({ run: (await import("../run/platform.ts")).psql }));
}

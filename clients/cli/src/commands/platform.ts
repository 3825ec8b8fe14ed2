import type { Runner } from "./define.ts";
import { addOutputOptions } from "./define.ts";

/** Commands that run or look after a platform on this machine. */
export function addPlatformCommands(runner: Runner): void {
  const doctor = runner.local("doctor", "check what this machine has and lacks");
  addOutputOptions(doctor.command)
    .option("--data <directory>", "data directory")
    .option("--gpu", "check the GPUs: driver, inventory, and a real computation on each");
  doctor.run(async () => ({ run: (await import("../run/doctor.ts")).doctor }));
}

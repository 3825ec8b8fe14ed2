/** A program of an experiment in a process of its own, which may be killed half-way. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/**
 * Runs a program beside this file with `config` as its JSON argument until it ends, or kills it (SIGKILL) with the first
 * report that `killAt` answers true to. Answers the last report: the program prints them, one JSON object a line.
 */
export async function lastReport<Report>(
  program: string,
  config: object,
  killAt: (report: Report) => boolean,
): Promise<Report> {
  const path = fileURLToPath(new URL(`./${program}`, import.meta.url));
  const args = ["--disable-warning=ExperimentalWarning", path, JSON.stringify(config)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  let report: Report | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    report = JSON.parse(line) as Report;
    if (killAt(report)) child.kill("SIGKILL");
  }
  const [code, signal] = (await exited) as [number | null, string | null];
  if (code !== 0 && signal !== "SIGKILL") throw new Error(`${program} ended early`);
  if (report === undefined) throw new Error(`${program} reported nothing`);
  return report;
}

import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import type { Check, CheckStatus } from "../doctor/check.ts";
import { checkMachine } from "../doctor/machine.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { type View, isForPeople, printList } from "../output/print.ts";
import { progressLine } from "../output/progress-line.ts";
import type { Paint } from "../output/terminal.ts";
import { defaultDataDir } from "./data-dir.ts";

const MARKS: Record<CheckStatus, string> = { ok: "✓ ok", warning: "! warning", failed: "✗ failed" };

function checkView(paint: Paint): View<Check> {
  const colours = { ok: paint.green, warning: paint.yellow, failed: paint.red };
  return {
    columns: [
      {
        header: "status",
        value: (check) => MARKS[check.status],
        paint: (cell, check) => colours[check.status](cell),
      },
      { header: "check", value: (check) => check.name },
      { header: "detail", value: (check) => check.detail },
    ],
    id: (check) => check.name,
    json: (check) => check,
  };
}

/** `doctor [--gpu]`: what this machine has and lacks; fails where something is in the way. */
export async function doctor(
  context: CliContext,
  options: CommonOptions & { gpu?: boolean; data?: string },
): Promise<number> {
  const { terminal } = context;
  const checks = await findings(context, options);
  const print = printOptions(context, options);
  await printList(print, checkView(terminal.paint), checks, "");
  if (isForPeople(print)) {
    for (const { name, hint } of checks) {
      if (hint !== undefined) terminal.err(`  ${name}: try: ${hint}\n`);
    }
  }
  return checks.some(({ status }) => status === "failed") ? exitCodes.unavailable : exitCodes.ok;
}

async function findings(
  context: CliContext,
  options: { gpu?: boolean; data?: string },
): Promise<Check[]> {
  using _line = progressLine(context.terminal, "looking at this machine");
  const dataDir = options.data ?? defaultDataDir(context.env);
  const { checkGpus } = await import("../doctor/gpu.ts");
  if (options.gpu === true) {
    // Asked for in words, a GPU that is not there is more than worth knowing.
    return (await checkGpus()).map((check) =>
      check.status === "ok" ? check : { ...check, status: "failed" },
    );
  }
  return [
    ...(await checkMachine(dataDir)),
    ...(await checkGpus()).filter(({ name }) => name !== "computation"),
  ];
}

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KEY } from "./scripted-gateway.ts";

const BIN = fileURLToPath(new URL("../bin/fastgpu.mjs", import.meta.url));

/** How a run of the command line ended. */
export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A run that goes on. */
export interface CliProcess {
  child: ChildProcess;
  /** Resolves when standard error has the text; rejects when the process ends before. */
  says(text: string): Promise<void>;
  done: Promise<CliResult>;
}

/** Where and as whom the command line acts. */
export interface CliSettings {
  address?: string;
  key?: string;
  /** More environment; nothing else of this process's own is passed on but PATH and TMPDIR. */
  env?: Record<string, string>;
  input?: string;
  /** A command of the shell that standard output goes through: a pipe, as between two programs of a shell. */
  through?: string;
}

/** Starts the real command line as a child process. */
export function startCli(args: string[], settings: CliSettings = {}): CliProcess {
  const { through } = settings;
  const shell = through === undefined ? [] : ["/bin/sh", "-c", `"$0" "$@" | ${through}`];
  const [command = "", ...argv] = [...shell, process.execPath, BIN, ...args];
  const child = spawn(command, argv, {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: mkdtempSync(join(tmpdir(), "cli-home-")),
      TMPDIR: tmpdir(),
      ...(settings.address === undefined
        ? {}
        : { FASTGPU_ADDRESS: settings.address, FASTGPU_API_KEY: settings.key ?? KEY }),
      ...settings.env,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const result: CliResult = { code: null, stdout: "", stderr: "" };
  const waiting: { text: string; resolve: () => void; reject: (error: Error) => void }[] = [];
  const check = (): void => {
    for (const { text, resolve } of waiting) if (result.stderr.includes(text)) resolve();
  };
  child.stdout.on("data", (bytes: Buffer) => (result.stdout += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => {
    result.stderr += bytes.toString();
    check();
  });
  child.stdin.end(settings.input ?? "");
  const done = new Promise<CliResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      result.code = code;
      for (const { text, reject: fail } of waiting)
        fail(new Error(`ended without saying ${text}: ${result.stderr}`));
      resolve(result);
    });
  });
  const says = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ text, resolve, reject });
      check();
    });
  return { child, says, done };
}

/** Runs the command line to its end. */
export function runCli(args: string[], settings: CliSettings = {}): Promise<CliResult> {
  return startCli(args, settings).done;
}

import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { prepareWorkerFiles, workerFiles } from "./files.ts";
import { serveKeeper } from "./server.ts";

/**
 * The keeper program: `keeper ROOT`, options as JSON in the second argument. It must not be touched by whatever ends
 * its worker, so it has its own session and no terminal.
 */
async function main(): Promise<void> {
  const root = process.argv[2];
  const options = JSON.parse(process.argv[3] ?? "{}") as {
    idleMs?: number;
    logMaxBytes?: number;
    hide?: string[];
    controlGroups?: "auto" | "off";
  };
  if (root === undefined) throw new Error("usage: keeper ROOT [OPTIONS]");
  const files = workerFiles(root);
  prepareWorkerFiles(files);
  await lock(root);
  rmSync(files.socket, { force: true });
  await serveKeeper({
    files,
    idleMs: options.idleMs ?? 15_000,
    logMaxBytes: options.logMaxBytes ?? 1024 ** 3,
    controlGroups: options.controlGroups ?? "auto",
    hide: [...new Set([files.private, files.sockets, ...(options.hide ?? [])])],
  });
  process.exit(0);
}

/** One keeper a worker: a name in the abstract socket space vanishes with its holder, however that one dies. */
async function lock(root: string): Promise<void> {
  const name = createHash("sha256").update(root).digest("hex").slice(0, 32);
  for (let triesLeft = 100; ; triesLeft -= 1) {
    const server = createServer((socket) => socket.destroy());
    const held = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(`\0fastgpu-keeper-${name}`, () => resolve(true));
    });
    if (held) return;
    if (triesLeft === 0) throw new Error("another keeper serves this worker");
    // The one before may be on its way out.
    await sleep(50);
  }
}

await main();

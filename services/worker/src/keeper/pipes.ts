import { execFile } from "node:child_process";
import { closeSync, constants, openSync, readSync, unlinkSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";

/**
 * A named pipe of which only its two ends are left. Node's own child pipes are sockets, which a task cannot open
 * again as /dev/stdout; a real pipe can be.
 */
export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

const run = promisify(execFile);
const spareWanted = 4;

/** Pipes, some made ahead of demand. */
export interface PipePool {
  take(count: number): Promise<Pipe[]>;
}

/** Makes pipes, a few ahead of demand: one `mkfifo` for many. */
export function createPipePool(dir: string): PipePool {
  const spare: Pipe[] = [];
  let made = 0;
  const make = async (count: number): Promise<void> => {
    const paths = Array.from({ length: count }, () => join(dir, `pipe-${process.pid}-${made++}`));
    await run("mkfifo", ["-m", "600", ...paths]);
    for (const path of paths) {
      // Reading end first and non-blocking, so that neither open waits for the other.
      const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const writeFd = openSync(path, constants.O_WRONLY);
      unlinkSync(path);
      spare.push({ readFd, writeFd });
    }
  };
  let refill: Promise<void> = Promise.resolve();
  return {
    async take(count) {
      await refill;
      // Again, since another one may have taken what was made meanwhile.
      while (spare.length < count) await make(count - spare.length);
      const taken = spare.splice(0, count);
      if (spare.length < spareWanted)
        refill = make(spareWanted - spare.length).catch(() => undefined);
      return taken;
    },
  };
}

/** The reading side of a pipe. */
export interface PipeReader {
  /** Takes everything that is in the pipe at this moment. */
  drain(): void;
  /** Resolves once every writer is gone and all was read. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Reads a pipe as data comes; `onData` gets buffers that it must use at once. */
export function readPipe(fd: number, onData: (data: Buffer) => void): PipeReader {
  const socket = new Socket({ fd, readable: true, writable: false });
  const scratch = Buffer.allocUnsafe(64 * 1024);
  let open = true;
  socket.on("data", onData);
  const ended = new Promise<void>((done) => {
    socket.once("close", () => {
      open = false;
      done();
    });
  });
  socket.on("error", () => socket.destroy());
  return {
    ended,
    drain() {
      // What the stream has taken but not told yet is older than what is in the pipe; reading it tells it.
      while (open && socket.readableLength > 0 && socket.read() !== null);
      while (open) {
        const count = readNow(fd, scratch);
        if (count === 0) return;
        onData(scratch.subarray(0, count));
      }
    },
    close: () => socket.destroy(),
  };
}

/** Bytes read without waiting; 0 where the pipe is empty or at its end. */
function readNow(fd: number, into: Buffer): number {
  try {
    return readSync(fd, into, 0, into.length, null);
  } catch {
    return 0;
  }
}

export function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Closed already.
  }
}

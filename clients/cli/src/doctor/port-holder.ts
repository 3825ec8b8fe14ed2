import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";

/** Who listens on a TCP port of this machine: `node server.js (pid 123)`; undefined where the port is free. */
export async function portHolder(port: number): Promise<string | undefined> {
  if (await canListen(port)) return undefined;
  const inode = listeningInode(port);
  const pid = inode === undefined ? undefined : pidOfSocket(inode);
  return pid === undefined ? "a process of another user" : `${commandOf(pid)} (pid ${pid})`;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () =>
      server.close(() => resolve(true)),
    );
  });
}

/** The socket's inode from /proc/net/tcp and tcp6: columns local_address (hex), st (0A = LISTEN), inode. */
function listeningInode(port: number): string | undefined {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const line of readLines(table)) {
      const columns = line.trim().split(/\s+/);
      if (columns[1]?.endsWith(wanted) && columns[3] === "0A") return columns[9];
    }
  }
  return undefined;
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}

function pidOfSocket(inode: string): string | undefined {
  return readdirSync("/proc").find((pid) => /^\d+$/.test(pid) && holdsSocket(pid, inode));
}

function holdsSocket(pid: string, inode: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
      } catch {
        return false;
      }
    });
  } catch {
    // Gone meanwhile, or another user's.
    return false;
  }
}

/** The first words of a program's command line. */
function commandOf(pid: string): string {
  const words = (readLines(`/proc/${pid}/cmdline`)[0] ?? "").split("\0").filter(Boolean);
  return words.slice(0, 4).join(" ").slice(0, 100) || "a process";
}

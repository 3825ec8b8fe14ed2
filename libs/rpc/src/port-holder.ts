import { readFile, readdir, readlink } from "node:fs/promises";

/**
 * Who listens on a TCP port of this machine, for people: `node server.mjs (pid 4711)`. Undefined where it cannot be
 * told: not on Linux, or another user's process.
 */
export async function portHolder(port: number): Promise<string | undefined> {
  const inodes = await listeningInodes(port);
  if (inodes.size === 0) return undefined;
  for (const pid of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
      if (!inodes.has(target)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return `${command.replaceAll("\0", " ").trim().slice(0, 120)} (pid ${pid})`;
    }
  }
  return undefined;
}

/** The `socket:[inode]` links of the sockets that listen on the port. */
async function listeningInodes(port: number): Promise<ReadonlySet<string>> {
  const inodes = new Set<string>();
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    const text = await readFile(table, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const columns = line.trim().split(/\s+/);
      // 0A is LISTEN; the columns are those of proc_net_tcp(5).
      if (columns[3] === "0A" && columns[1]?.endsWith(`:${wanted}`) === true) {
        inodes.add(`socket:[${columns[9]}]`);
      }
    }
  }
  return inodes;
}

import { closeSync, constants, openSync, readSync } from "node:fs";

/** An XID error of the NVIDIA driver, from the kernel's log. */
export interface XidError {
  readonly pciBusId: string;
  readonly xid: number;
}

/** `NVRM: Xid (PCI:0000:3b:00): 79, …` of a kernel-priority record; undefined for every other line. */
export function parseXid(record: string): XidError | undefined {
  const [head, ...rest] = record.split(";");
  // The facility is above the lowest three bits; 0 is the kernel: others could be forged by users.
  if (Number(head?.split(",")[0]) >> 3 !== 0) return undefined;
  const match = /NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)/.exec(rest.join(";"));
  const [, pciBusId, xid] = match ?? [];
  return pciBusId === undefined ? undefined : { pciBusId, xid: Number(xid) };
}

/** Whether two spellings (`0000:3b:00`, `00000000:3B:00.0`) name one device. */
export function samePciDevice(a: string, b: string): boolean {
  const plain = (text: string): string =>
    text
      .toLowerCase()
      .replace(/\.\d+$/, "")
      .replace(/^0+(?=[0-9a-f]{4}:)/, "");
  return plain(a) === plain(b);
}

/** Follows the kernel's log for XID errors; `poll` calls back for each new one. */
export function openXidWatch(onXid: (error: XidError) => void): Disposable & { poll(): void } {
  let fd: number | undefined;
  try {
    fd = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    fd = undefined;
  }
  const buffer = Buffer.allocUnsafe(8_192);
  return {
    poll() {
      while (fd !== undefined) {
        try {
          const count = readSync(fd, buffer, 0, buffer.length, null);
          const error = parseXid(buffer.toString("utf8", 0, count));
          if (error !== undefined) onXid(error);
        } catch (error) {
          // EPIPE: records were overwritten before they were read; the next ones follow.
          if (!(error instanceof Error && "code" in error && error.code === "EPIPE")) return;
        }
      }
    },
    [Symbol.dispose]() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

import { Fault } from "@fastgpu/domain/fault";
import type { Listen } from "@fastgpu/rpc/listen";

/** Reads `unix:PATH` or `host:port`. Throws INVALID_FIELD where it is neither. */
export function listenOf(text: string): Listen {
  if (text.startsWith("unix:")) return { path: text.slice("unix:".length) };
  const [, host, port] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535) {
    throw Fault.invalid("listen", "must be host:port or unix:PATH");
  }
  return { host, port: Number(port) };
}

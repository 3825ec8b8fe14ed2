import { chmod, lstat, unlink } from "node:fs/promises";
import { connect, isIP } from "node:net";
import { Fault } from "@fastgpu/domain/fault";
import { limits } from "./limits.ts";
import { portHolder } from "./port-holder.ts";

/** Where a server listens: a TCP port (0 = any free one) or a unix socket. */
export type Listen = { readonly host: string; readonly port: number } | { readonly path: string };

/** Whether an address reaches only this machine. */
export function isLoopback(host: string): boolean {
  if (host === "localhost" || host === "::1") return true;
  return isIP(host) === 4 && host.startsWith("127.");
}

/** Refuses to speak in clear text to other machines, unless told to. */
export function checkBind(
  listen: Listen,
  options: { readonly tls: boolean; readonly insecure: boolean },
): void {
  if ("path" in listen || options.tls || options.insecure || isLoopback(listen.host)) return;
  throw new Fault("ILLEGAL_STATE", `refusing to listen on ${listen.host} without TLS`, {
    hint: "configure a certificate, listen on 127.0.0.1, or pass --insecure",
  });
}

/** The fault of an address that could not be bound; names who has the port, where that can be told. */
export async function takenAddress(
  address: string,
  port: number,
  cause: unknown,
  setting = "the port of this service",
): Promise<Fault> {
  const holder = port === 0 ? undefined : await portHolder(port);
  const by = holder === undefined ? "" : `: ${holder} has it`;
  return new Fault("ILLEGAL_STATE", `cannot listen on ${address}${by}`, {
    hint: `stop that process, or change ${setting}`,
    cause,
  });
}

/**
 * Makes room for a unix socket: removes the file that a killed server left, refuses where a living one answers or where
 * the path is longer than Linux takes.
 */
export async function clearSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > limits.socketPathBytes) {
    throw new Fault(
      "ILLEGAL_STATE",
      `the socket path ${path} is longer than ${limits.socketPathBytes} bytes`,
      { hint: "choose a data directory with a shorter path (--data DIR)" },
    );
  }
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket() || (await answers(path))) {
    throw new Fault("ILLEGAL_STATE", `${path} is in use by another process`, {
      hint: "stop it, or choose another data directory (--data DIR)",
    });
  }
  await unlink(path);
}

/** Only the owner may connect. */
export async function guardSocket(path: string): Promise<void> {
  await chmod(path, 0o600);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

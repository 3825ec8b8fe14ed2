import { createServer as createHttp1 } from "node:http";
import type { Server as Http1Server } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import type { Http2Server, ServerHttp2Session } from "node:http2";
import { createServer as createTcp } from "node:net";
import type { Server, Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { sleep } from "@fastgpu/lifecycle/signals";
import { limits } from "@fastgpu/rpc/limits";
import { takenAddress } from "@fastgpu/rpc/listen";

/** Time a new connection has to send its first bytes, in milliseconds. */
const firstBytesMs = 10_000;
/** How every HTTP/2 connection begins (RFC 9113, 3.4). */
const preface = "PRI ";

/** One port that speaks HTTP/1.1 and HTTP/2. */
export interface Listener {
  readonly port: number;
  /** Gets every HTTP/1.1 request. */
  readonly http1: Http1Server;
  /** Gets every HTTP/2 stream. */
  readonly http2: Http2Server;
  /** Takes no more connections, tells HTTP/2 clients to leave, and after `graceMs` breaks off what is left. */
  close(graceMs: number): Promise<void>;
}

/** Options of {@link listen}. */
export interface ListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
}

/**
 * Opens the port. In clear text the first bytes tell the protocol (Node's h2c server would break off an HTTP/1.1
 * client); under TLS it is agreed by ALPN.
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const http1 = createHttp1({ maxHeaderSize: limits.headerBytes, requestTimeout: 0 });
  const http2 = createHttp2({
    maxSessionMemory: 128,
    settings: {
      maxConcurrentStreams: limits.concurrentStreams,
      initialWindowSize: limits.flowWindowBytes,
    },
  });
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(4 * limits.flowWindowBytes);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => session.destroy());
  });
  const server =
    options.tls === undefined ? tcpServer(http1, http2) : tlsServer(options.tls, http1, http2);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await bind(server, options);
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    http1,
    http2,
    async close(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      http1.closeIdleConnections();
      const settled = new AbortController();
      void closed.then(() => settled.abort());
      await sleep(graceMs, settled.signal);
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function tcpServer(http1: Http1Server, http2: Http2Server): Server {
  return createTcp({ noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    const timer = setTimeout(() => socket.destroy(), firstBytesMs);
    let head: Buffer = Buffer.alloc(0);
    const look = (): void => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return;
      head = Buffer.concat([head, chunk]);
      const start = head.toString("latin1", 0, preface.length);
      // An HTTP/1.1 request may also begin with P; a few bytes more will tell.
      if (start.length < preface.length && preface.startsWith(start)) return;
      clearTimeout(timer);
      socket.off("readable", look);
      socket.unshift(head);
      (start === preface ? http2 : http1).emit("connection", socket);
    };
    socket.on("readable", look);
    socket.once("close", () => clearTimeout(timer));
  });
}

function tlsServer(
  tls: { readonly cert: string; readonly key: string },
  http1: Http1Server,
  http2: Http2Server,
): Server {
  const server = createTls(
    { ...tls, ALPNProtocols: ["h2", "http/1.1"], minVersion: "TLSv1.2" },
    (socket) => {
      socket.on("error", () => socket.destroy());
      (socket.alpnProtocol === "h2" ? http2 : http1).emit("connection", socket);
    },
  );
  return server;
}

async function bind(server: Server, options: ListenerOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => resolve());
  }).catch(async (error: unknown) => {
    const address = `${options.host}:${options.port}`;
    throw await takenAddress(address, options.port, error, "gateway.port (FASTGPU_GATEWAY__PORT)");
  });
}

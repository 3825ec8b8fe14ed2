import { connect as connectHttp2 } from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";
import type { Socket } from "node:net";
import { limits } from "@fastgpu/rpc/limits";

/** HTTP/2 to one service; connects on first use and again after a loss. */
export interface Upstream {
  /** For clients that make their own connections. */
  readonly dial: () => Socket;
  /** Opens a stream; its failure is reported on the stream. */
  request(headers: OutgoingHttpHeaders): ClientHttp2Stream;
  close(): void;
}

/** The address as a function that dials it. `unix:PATH` or `host:port`. */
function dialer(address: string): () => Socket {
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    return () => connectSocket(path);
  }
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  const port = Number(address.slice(at + 1));
  return () => connectSocket({ host, port, noDelay: true });
}

/** An upstream by its address. Nothing is dialled yet. */
export function createUpstream(address: string): Upstream {
  const dial = dialer(address);
  let session: ClientHttp2Session | undefined;

  function connect(): ClientHttp2Session {
    const made = connectHttp2("http://upstream", {
      createConnection: dial,
      maxSessionMemory: 128,
      settings: { initialWindowSize: limits.flowWindowBytes, enablePush: false },
    });
    const forget = (): void => {
      if (session === made) session = undefined;
    };
    // A service that drains says so first: what is open goes on there, what is new goes elsewhere.
    made.on("goaway", forget);
    made.on("close", forget);
    made.on("error", forget);
    made.once("connect", () => made.setLocalWindowSize(16 * limits.flowWindowBytes));
    keepAlive(made);
    return made;
  }

  return {
    dial,
    request(headers) {
      if (session === undefined || session.closed || session.destroyed) session = connect();
      return session.request(headers, { endStream: false });
    },
    close() {
      session?.destroy();
      session = undefined;
    },
  };
}

/** Finds out that the other side is gone without a word. */
function keepAlive(session: ClientHttp2Session): void {
  const timer = setInterval(() => {
    const dead = setTimeout(() => session.destroy(), limits.keepaliveTimeoutMs);
    session.ping(() => clearTimeout(dead));
  }, limits.keepaliveMs);
  timer.unref();
  session.once("close", () => clearInterval(timer));
}

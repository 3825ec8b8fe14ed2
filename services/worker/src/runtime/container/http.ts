import { Agent, type IncomingMessage, request as httpRequest } from "node:http";
import type { Readable } from "node:stream";

/** An answer of a container engine. `body` is parsed JSON, or text where it is none. */
export interface EngineReply {
  readonly status: number;
  readonly body: unknown;
}

/** HTTP over a unix socket. */
export interface EngineHttp {
  call(
    method: "GET" | "POST" | "DELETE",
    path: string,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<EngineReply>;
  /** Sends a stream as the body. */
  upload(path: string, content: Readable): Promise<EngineReply>;
  /** An answer that is read as it comes. */
  stream(path: string, signal: AbortSignal): Promise<IncomingMessage>;
  close(): void;
}

/** Talks to the engine behind `socketPath`; `ensure` is asked to bring it up before each call. */
export function createEngineHttp(socketPath: string, ensure: () => Promise<void>): EngineHttp {
  const agent = new Agent({ keepAlive: true, maxSockets: 64, timeout: 0 });
  const send = (
    method: string,
    path: string,
    options: { type?: string; signal?: AbortSignal | undefined },
    write: (request: ReturnType<typeof httpRequest>) => void,
  ): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath,
        agent,
        method,
        path,
        headers: { host: "engine", ...(options.type ? { "content-type": options.type } : {}) },
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      request.once("response", resolve);
      request.once("error", reject);
      write(request);
    });
  return {
    async call(method, path, body, signal) {
      await ensure();
      const json = body === undefined ? undefined : JSON.stringify(body);
      const options = json === undefined ? { signal } : { type: "application/json", signal };
      return readReply(await send(method, path, options, (request) => request.end(json)));
    },
    async upload(path, content) {
      await ensure();
      const options = { type: "application/x-tar" };
      return readReply(await send("POST", path, options, (request) => content.pipe(request)));
    },
    async stream(path, signal) {
      await ensure();
      return send("GET", path, { signal }, (request) => request.end());
    },
    close: () => agent.destroy(),
  };
}

async function readReply(response: IncomingMessage): Promise<EngineReply> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  return { status: response.statusCode ?? 0, body: parse(text) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** The engine's own words about a failure. */
export function messageOf(reply: EngineReply): string {
  const { body } = reply;
  if (typeof body === "object" && body !== null && "message" in body) return String(body.message);
  return typeof body === "string" && body !== "" ? body : `status ${reply.status}`;
}

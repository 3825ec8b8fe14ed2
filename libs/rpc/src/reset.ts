import { subscribe } from "node:diagnostics_channel";
import { constants } from "node:http2";
import type { ClientHttp2Stream } from "node:http2";

/**
 * Resets a request so that it cannot look complete. Node's `close` on its own first ends the writing side: the server
 * reads a whole request, and may act on it before the reset arrives.
 */
export function resetRequest(stream: ClientHttp2Stream): void {
  if (stream.destroyed || stream.closed) return;
  withoutEnd(stream);
  stream.close(constants.NGHTTP2_CANCEL);
}

/** Makes the streams that libraries of this process open do the same. Idempotent. */
export function resetRequestsWithoutEnd(): void {
  if (watching) return;
  watching = true;
  subscribe("http2.client.stream.created", (message) => {
    const { stream } = message as { readonly stream: ClientHttp2Stream };
    const close = stream.close.bind(stream);
    stream.close = (code, callback) => {
      if (code !== undefined && code !== constants.NGHTTP2_NO_ERROR) withoutEnd(stream);
      close(code, callback);
    };
  });
}

let watching = false;

/** `close` calls `end` unless the request has been ended before. */
function withoutEnd(stream: ClientHttp2Stream): void {
  if (!stream.writableEnded && !stream.closed) stream.end = () => stream;
}

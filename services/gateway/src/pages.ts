import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { nearest } from "@fastgpu/lifecycle/nearest";
import { routes } from "./routes.ts";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** What the pages tell. */
export interface Pages {
  /** False from the beginning of a drain. */
  readonly serving: () => boolean;
}

/** Answers what is no call: the front page, `/healthz`, and paths that nothing is at. */
export function answerPage(pages: Pages, request: Request, response: Response): void {
  const path = request.url?.split("?", 1)[0] ?? "/";
  (request as IncomingMessage).resume();
  if (path === "/healthz") {
    const serving = pages.serving();
    answer(response, serving ? 200 : 503, "text/plain", serving ? "ok\n" : "draining\n");
  } else if (path === "/" && request.method !== "POST") {
    answer(response, 200, "text/html; charset=utf-8", frontPage);
  } else {
    const body = JSON.stringify({ code: "unimplemented", message: unknownPath(path) });
    answer(response, 404, "application/json", `${body}\n`);
  }
}

/** What is said of a path that is no method, with the closest one that is. */
export function unknownPath(path: string): string {
  const close = nearest(path, [...routes.keys()]);
  const hint = close === undefined ? "GET / tells where things are" : `did you mean ${close}?`;
  return `${path} is not a method of this API; ${hint}`;
}

function answer(response: Response, status: number, type: string, body: string): void {
  (response as ServerResponse).writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  (response as ServerResponse).end(body);
}

const frontPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>FastGPU</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto;padding:.75rem;border:1px solid}</style>
<h1>FastGPU</h1>
<p>This port speaks gRPC, gRPC-Web, Connect and JSON.</p>
<h2>By JSON</h2>
<pre>curl -H "authorization: Bearer $FASTGPU_API_KEY" -H 'content-type: application/json' \\
  -d '{}' HERE/fastgpu.scheduler.v1.NodeService/ListNodes</pre>
<h2>By gRPC, with reflection</h2>
<pre>buf curl --http2-prior-knowledge -H "authorization: Bearer $FASTGPU_API_KEY" \\
  -d '{}' HERE/fastgpu.scheduler.v1.NodeService/ListNodes
buf curl --http2-prior-knowledge --list-methods HERE</pre>
<h2>From a shell</h2>
<pre>fastgpu task run --gpus 1 -- CMD
fastgpu --help</pre>
<p>Health: <a href="/healthz">/healthz</a></p>
</html>
`;

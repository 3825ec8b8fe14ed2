/**
 * The bare unary floor: an empty message in, an empty message out, on libs/rpc, in a process of its own as the platform
 * is. `node pipeline-unary.ts SOCKET`; prints `ready` and stops when its standard input ends.
 */
import { once } from "node:events";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { wallClock } from "@fastgpu/lifecycle/clock";
import { service } from "@fastgpu/rpc/handlers";
import { anonymous } from "@fastgpu/rpc/principal";
import { startServer } from "@fastgpu/rpc/server";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";

const stop = new AbortController();
const server = await startServer({
  listen: { path: process.argv[2] ?? "" },
  services: [
    service(TokenService, {
      getJwks: () => Promise.resolve({}),
      exchangeToken: () => Promise.resolve({}),
    }),
  ],
  auth: { authenticate: () => anonymous, resolveProject: () => undefined },
  clock: wallClock,
  log: createLogger({ service: "bench", level: "silent" }),
  tracing: passiveTracing,
  stop: stop.signal,
});
process.stdout.write("ready\n");
process.stdin.resume();
await once(process.stdin, "end");
stop.abort();
await server.closed;

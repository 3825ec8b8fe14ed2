/** Floors and peers of the pipeline experiment, each measured in the same run. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { inFlight } from "./pipeline-load.ts";

/** Something that can be measured again and again; answers operations per second. */
export interface Subject extends AsyncDisposable {
  measure(count: number): Promise<number>;
}

/** Seconds that `work` takes. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

/** An empty unary call on libs/rpc over a unix socket, `width` under way at once. */
export async function startUnaryFloor(directory: string, width: number): Promise<Subject> {
  const program = fileURLToPath(new URL("./pipeline-unary.ts", import.meta.url));
  const socket = join(directory, "floor.sock");
  const args = ["--disable-warning=ExperimentalWarning", program, socket];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  await once(createInterface({ input: child.stdout }), "line");
  const channel = createChannel({ address: `unix:${socket}` });
  const client = createClient(TokenService, channel);
  return {
    async measure(count) {
      return count / (await secondsOf(() => inFlight(count, width, () => client.getJwks({}))));
    },
    async [Symbol.asyncDispose]() {
      channel.close();
      const exited = once(child, "exit");
      child.stdin.end();
      await exited;
    },
  };
}

/** `true` started by Node and waited for, as many at once as there are slots. */
export function spawnFloor(width: number): Subject {
  return {
    async measure(count) {
      const one = async (): Promise<void> => {
        const child = spawn("true", { stdio: "ignore" });
        await once(child, "exit");
      };
      return count / (await secondsOf(() => inFlight(count, width, one)));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** A thread that answers questions on snapshots of its own, so that the cycle and the calls go on meanwhile. */
import { parentPort, workerData } from "node:worker_threads";
import { Fault } from "@fastgpu/domain/fault";
import { openPool } from "@fastgpu/postgres/pool";
import { createLogger } from "@fastgpu/telemetry/log";
import { answer } from "./answer.ts";
import type { ThreadData, ThreadReply, ThreadRequest } from "./desk.ts";
import { createSnapshots } from "./snapshot.ts";

const { coreUrl, logLevel } = workerData as ThreadData;
const log = createLogger({ service: "scheduler", level: logLevel });
const core = openPool({ url: coreUrl, name: "scheduler explain", log, max: 1 });
/** The service's time less this thread's, as of the last question. */
let aheadMs = 0;
const clock = { nowMs: () => Math.floor(aheadMs + performance.now()) };
const snapshots = createSnapshots(core, clock);

parentPort?.on("message", ({ question, stop, budgetMs }: ThreadRequest) => {
  const fromMs = performance.now();
  aheadMs = question.nowMs - performance.now();
  const flag = new Int32Array(stop);
  const spent = (): number => (performance.now() - fromMs) / budgetMs;
  const goOn = (part: number): boolean => Atomics.load(flag, 0) === 0 && spent() < part;
  void snapshots.read().then((snapshot) => {
    try {
      send({ kind: "answer", answer: answer(question, snapshot, { goOn, spent }) });
    } catch (error) {
      refuse(error);
    }
  }, refuse);
});

function send(reply: ThreadReply): void {
  parentPort?.postMessage(reply);
}

function refuse(error: unknown): void {
  log.error({ err: error }, "a question had no answer");
  const { reason, message } = Fault.from(error);
  send({ kind: "failed", reason, message });
}

import { Worker } from "node:worker_threads";
import { Fault, type FaultReason } from "@fastgpu/domain/fault";
import type { Logger } from "@fastgpu/telemetry/log";
import type { AnswerTo, Question } from "./question.ts";

/** Takes questions about the line, one after the other, in a thread of their own. */
export interface ExplainDesk extends AsyncDisposable {
  /**
   * Works out an answer. Throws RATE_LIMITED, with the time to wait, where too many wait already, and the signal's
   * reason where it is aborted first.
   */
  ask<Q extends Question>(question: Q, by: Asker): Promise<AnswerTo<Q>>;
}

/** Who asks, and until when. */
export interface Asker {
  /** At most a part of what waits is of one organisation. */
  readonly org: string;
  readonly signal: AbortSignal;
  /** Since the epoch; undefined: none. */
  readonly deadlineMs: number | undefined;
}

/** What the thread starts with. */
export interface ThreadData {
  readonly coreUrl: string;
  readonly logLevel: string;
}

/** What the thread is asked. */
export interface ThreadRequest {
  readonly question: Question;
  /** One Int32: anything but 0 tells it to come to an end. */
  readonly stop: SharedArrayBuffer;
  readonly budgetMs: number;
}

/** What it replies. */
export type ThreadReply =
  | { readonly kind: "answer"; readonly answer: AnswerTo<Question> }
  | { readonly kind: "failed"; readonly reason: FaultReason; readonly message: string };

/** Questions that wait or are worked on at most, and of one organisation. */
const maxOpen = 16;
const maxOpenOfOrg = 4;
/** Time for the forecasts and searches of one answer, looked at between their pieces: starts beyond it are told roughly. */
const budgetMs = 5_000;
/** The same for each of the two futures of a change. */
const whatIfBudgetMs = 5_000;
/** Left of a call's deadline for the way back. */
const returnMs = 250;
/** The thread ends after so long without a question: it takes memory. */
const idleMs = 60_000;

interface Open {
  readonly question: Question;
  readonly by: Asker;
  readonly stop: SharedArrayBuffer;
  readonly resolve: (answer: AnswerTo<Question>) => void;
  readonly reject: (error: unknown) => void;
}

/** A desk whose thread starts with the first question. */
export function createExplainDesk(options: {
  readonly coreUrl: string;
  readonly log: Logger;
}): ExplainDesk {
  const { coreUrl, log } = options;
  const line: Open[] = [];
  let current: Open | undefined;
  let thread: Worker | undefined;
  let idle: NodeJS.Timeout | undefined;
  /** How long the last answer took: after about so long one of those that are open is done. */
  let tookMs = 0;
  let startedMs = 0;

  const finish = (settle: (open: Open) => void): void => {
    const done = current;
    current = undefined;
    if (done !== undefined) settle(done);
    next();
  };
  const start = (): Worker => {
    const data: ThreadData = { coreUrl, logLevel: log.level };
    const started = new Worker(new URL("./thread.ts", import.meta.url), { workerData: data });
    started.unref();
    started.on("message", (reply: ThreadReply) =>
      finish((open) => {
        if (reply.kind === "answer") {
          tookMs = performance.now() - startedMs;
          open.resolve(reply.answer);
        } else open.reject(new Fault(reply.reason, reply.message));
      }),
    );
    started.on("error", (err) => log.error({ err }, "the thread that explains has failed"));
    started.on("exit", () => {
      if (thread !== started) return;
      thread = undefined;
      const message = "the explanation was cut short";
      finish((open) => open.reject(new Fault("UNAVAILABLE", message, { retryAfterMs: 500 })));
    });
    return started;
  };
  const stopThread = async (): Promise<void> => {
    const ending = thread;
    thread = undefined;
    await ending?.terminate();
  };
  const next = (): void => {
    if (current !== undefined) return;
    current = line.shift();
    clearTimeout(idle);
    if (current === undefined) {
      idle = setTimeout(() => void stopThread(), idleMs).unref();
      return;
    }
    startedMs = performance.now();
    const { question, stop, by } = current;
    const leftMs = by.deadlineMs === undefined ? Infinity : by.deadlineMs - Date.now() - returnMs;
    thread ??= start();
    // The second future of a change takes as long as the first.
    const whatIf = question.kind === "whatIf";
    const mostMs = whatIf ? Math.min(whatIfBudgetMs, leftMs / 2) : Math.min(budgetMs, leftMs);
    const request: ThreadRequest = { question, stop, budgetMs: mostMs };
    thread.postMessage(request);
  };
  return {
    ask<Q extends Question>(question: Q, by: Asker) {
      const open = current === undefined ? line : [current, ...line];
      const own = open.filter((each) => each.by.org === by.org).length;
      if (open.length >= maxOpen || own >= maxOpenOfOrg)
        return Promise.reject(tooMany(open.length, tookMs));
      by.signal.throwIfAborted();
      return new Promise<AnswerTo<Q>>((resolve, reject) => {
        const stop = new SharedArrayBuffer(4);
        const asked: Open = {
          ...{ question, by, stop, reject },
          // The thread answers what it was asked.
          resolve: (answer) => resolve(answer as AnswerTo<Q>),
        };
        by.signal.addEventListener(
          "abort",
          () => {
            Atomics.store(new Int32Array(stop), 0, 1);
            const at = line.indexOf(asked);
            if (at >= 0) line.splice(at, 1);
            reject(by.signal.reason);
          },
          { once: true },
        );
        line.push(asked);
        next();
      });
    },
    async [Symbol.asyncDispose]() {
      clearTimeout(idle);
      await stopThread();
    },
  };
}

/** Bounds of the time to wait that is told, in milliseconds. */
const [leastWaitMs, mostWaitMs] = [1_000, 30_000];

const tooMany = (open: number, tookMs: number): Fault =>
  new Fault("RATE_LIMITED", `${open} questions are being worked on already`, {
    hint: "ask again in a moment",
    retryAfterMs: Math.round(Math.min(mostWaitMs, Math.max(leastWaitMs, tookMs))),
  });

import { recentBootMs } from "../boot-time.ts";
import type { KnownAttempt, Launch, Outcome, Runtime, RuntimeEvent } from "./port.ts";

/**
 * Executes nothing and ends every attempt and every element well: for throughput measurements and for fleets that
 * exist only on paper. It says `simulated` wherever it shows.
 */
export function createNoopRuntime(): Runtime {
  const listeners: ((event: RuntimeEvent) => void)[] = [];
  const ended = new Map<string, Outcome>();
  const outcomeOf = (launch: Launch): Outcome => ({
    cause: "exit",
    exitCode: 0,
    oom: false,
    stopReason: undefined,
    message: "simulated: nothing was executed",
    endedBootMs: recentBootMs(),
    elements:
      launch.array === undefined
        ? undefined
        : { ok: launch.array.ranges, userExit: [], oom: [], timeout: [] },
  });
  return {
    kind: "noop",
    start(launch) {
      const known = ended.has(launch.name);
      const outcome = ended.get(launch.name) ?? outcomeOf(launch);
      ended.set(launch.name, outcome);
      if (!known) {
        setImmediate(() => {
          for (const listener of listeners)
            listener({ kind: "exited", name: launch.name, outcome });
        });
      }
      return Promise.resolve({ kind: "started", isolation: ["simulated"], bootMs: recentBootMs() });
    },
    stop: () => Promise.resolve(false),
    setDeadlines: () => Promise.resolve(),
    list: () =>
      Promise.resolve([...ended].map(([name, outcome]): KnownAttempt => ({ name, outcome }))),
    workFolder: () => ({ host: "/nonexistent", inside: "/nonexistent" }),
    remove(name) {
      ended.delete(name);
      return Promise.resolve();
    },
    subscribe: (listener) => void listeners.push(listener),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

import type { Clock } from "@fastgpu/domain/clock";
import { parseId } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Logger } from "@fastgpu/telemetry/log";
import { newEvent, topics } from "./topics.ts";

/** Calls of one principal to one method that were refused within a minute. */
export interface DeniedCalls {
  /** Key, node or service; `anonymous`, or `others` beyond the most that are told apart. */
  readonly principal: string;
  /** The principal's organisation; undefined for those without one. */
  readonly org: OrgId | undefined;
  readonly method: string;
  readonly count: number;
}

/** The part of a finished call that matters here; `FinishedCall` of libs/rpc fits. */
export interface ObservedCall {
  readonly method: string;
  /** gRPC status name. */
  readonly code: string;
  readonly principal: { readonly id: string; readonly org?: string };
}

/** Options of {@link startDeniedCalls}. */
export interface DeniedCallsOptions {
  /** Makes what was counted durable; where it rejects, the counts are kept and tried again. */
  readonly write: (denied: readonly DeniedCalls[]) => Promise<void>;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /** 60 s unless told otherwise. */
  readonly everyMs?: number;
}

/** Principals and methods told apart within a minute; a flood of more must not fill the memory or the log. */
const MOST = 1_000;

/** Counts refused calls per principal and method, for the audit log: one fact a minute, not one a call. */
export function startDeniedCalls(
  options: DeniedCallsOptions,
): { observe(call: ObservedCall): void; flush(): Promise<void> } & AsyncDisposable {
  let counts = new Map<string, DeniedCalls>();

  const add = (denied: DeniedCalls): void => {
    const known = counts.get(keyOf(denied));
    const full = known === undefined && counts.size >= MOST;
    const slot = full ? { ...denied, principal: "others", org: undefined, method: "any" } : denied;
    const before = counts.get(keyOf(slot))?.count ?? 0;
    counts.set(keyOf(slot), { ...slot, count: before + denied.count });
  };
  const flush = async (): Promise<void> => {
    if (counts.size === 0) return;
    const taken = counts;
    counts = new Map();
    try {
      await options.write([...taken.values()]);
    } catch (error) {
      for (const denied of taken.values()) add(denied);
      throw error;
    }
  };
  const loop = startLoop({
    name: "denied calls",
    stop: options.stop,
    log: options.log,
    idleMs: options.everyMs ?? 60_000,
    step: async () => {
      await flush();
      return "idle";
    },
  });
  return {
    observe({ method, code, principal }) {
      if (code !== "PERMISSION_DENIED" && code !== "UNAUTHENTICATED") return;
      add({ principal: principal.id, org: parseId("org", principal.org ?? ""), method, count: 1 });
    },
    flush,
    async [Symbol.asyncDispose]() {
      await loop[Symbol.asyncDispose]();
      await flush().catch((error: unknown) => {
        options.log.warn({ err: error }, "counts of refused calls were lost");
      });
    },
  };
}

/** Writes counts as AuditRecorded events into the service's outbox; auth chains them from there. */
export function deniedCallsToOutbox(options: {
  readonly core: Pool;
  readonly clock: Clock;
  /** Called after the commit. */
  readonly wakeRelay: () => void;
}): DeniedCallsOptions["write"] {
  return async (denied) => {
    const occurredMs = options.clock.nowMs();
    const events = denied.map(({ principal, org, method, count }) =>
      newEvent(
        topics.auditRecorded,
        { principal, method, deniedCalls: count },
        { aggregate: principal, aggregateRevision: 1n, occurredMs, org },
      ),
    );
    await transaction(options.core, (tx) => appendEvents(tx, events));
    options.wakeRelay();
  };
}

function keyOf(denied: DeniedCalls): string {
  return `${denied.principal} ${denied.method}`;
}

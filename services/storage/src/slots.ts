import { Fault } from "@fastgpu/domain/fault";

/** A bounded number of streams at once, with a share that no single tenant can pass. */
export interface Slots {
  /** Takes a slot until it is disposed; RATE_LIMITED where there is none. */
  take(tenant: string): Disposable;
}

/** Time after which a refused stream may try again, in milliseconds. */
const RETRY_MS = 1_000;

/** Streams hold buffers: so many at once, and for one tenant at most half of them, keep the memory flat. */
export function createSlots(what: string, total: number): Slots {
  const perTenant = Math.max(1, Math.floor(total / 2));
  const taken = new Map<string, number>();
  let all = 0;
  return {
    take(tenant) {
      const own = taken.get(tenant) ?? 0;
      if (all >= total || own >= perTenant) {
        throw new Fault("RATE_LIMITED", `too many ${what} at once`, {
          hint: "wait for one of your own to end, and repeat",
          retryAfterMs: RETRY_MS,
          metadata: { limit: String(own >= perTenant ? perTenant : total) },
        });
      }
      taken.set(tenant, own + 1);
      all += 1;
      let held = true;
      return {
        [Symbol.dispose]() {
          if (!held) return;
          held = false;
          all -= 1;
          const left = (taken.get(tenant) ?? 1) - 1;
          if (left === 0) taken.delete(tenant);
          else taken.set(tenant, left);
        },
      };
    },
  };
}

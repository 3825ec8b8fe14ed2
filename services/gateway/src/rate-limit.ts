import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";

/** Options of {@link createRateLimit}. */
export interface RateLimitOptions {
  readonly callsPerSecond: number;
  /** Calls that may come at once after a pause. */
  readonly burst: number;
  readonly clock: Clock;
}

/** Tenants remembered; one that fell out begins with a full bucket. */
const rememberedTenants = 10_000;

/** Takes one call of a tenant, or throws RATE_LIMITED with the time to wait. */
export type RateLimit = (tenant: string) => void;

/** A token bucket per tenant, refilled evenly. */
export function createRateLimit(options: RateLimitOptions): RateLimit {
  const { callsPerSecond, burst, clock } = options;
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  return (tenant) => {
    const nowMs = clock.nowMs();
    const bucket = buckets.get(tenant) ?? { tokens: burst, atMs: nowMs };
    const refill = (Math.max(0, nowMs - bucket.atMs) / 1000) * callsPerSecond;
    const tokens = Math.min(burst, bucket.tokens + refill);
    // Moved to the end, so that those unused for longest are forgotten first.
    buckets.delete(tenant);
    buckets.set(tenant, { tokens: tokens >= 1 ? tokens - 1 : tokens, atMs: nowMs });
    for (const oldest of buckets.keys()) {
      if (buckets.size <= rememberedTenants) break;
      buckets.delete(oldest);
    }
    if (tokens < 1) throw limited(callsPerSecond, ((1 - tokens) / callsPerSecond) * 1000);
  };
}

function limited(callsPerSecond: number, waitMs: number): Fault {
  return new Fault("RATE_LIMITED", `more than ${callsPerSecond} calls a second`, {
    retryAfterMs: Math.ceil(waitMs),
    hint: "slow down, or put many tasks into one BatchRunTasks call",
    metadata: { calls_per_second: String(callsPerSecond) },
  });
}

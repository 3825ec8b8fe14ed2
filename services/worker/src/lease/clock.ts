/** An acknowledgement: the worker's send time and the server's time when it answered, both in milliseconds. */
export interface Acknowledgement {
  readonly sentAtMs: number;
  readonly serverTimeMs: number;
}

/** Clocks of two machines part by less than this, in parts per million: quartz plus what NTP slews. */
const driftPpm = 600;

/**
 * Upper bound of (server's time − worker's time). The worker's clock must count suspend. Values only; every function
 * here is pure.
 */
export interface ServerBound {
  /** Bound when it was learnt. */
  readonly offsetMs: number;
  /** Worker's time of the send that it was learnt from. */
  readonly atMs: number;
}

/** The bound at a later moment: two clocks may have drifted apart since. */
export function offsetAt(bound: ServerBound, nowMs: number): number {
  return bound.offsetMs + (Math.max(0, nowMs - bound.atMs) * driftPpm) / 1e6;
}

/**
 * What an acknowledgement teaches. The server read its clock after the worker's send, so server time now is at most
 * S + (now − M): S − M bounds the offset. The tighter of the old and the new bound counts.
 */
export function learn(bound: ServerBound | undefined, ack: Acknowledgement): ServerBound {
  const fresh = { offsetMs: ack.serverTimeMs - ack.sentAtMs, atMs: ack.sentAtMs };
  if (bound === undefined || fresh.offsetMs <= offsetAt(bound, ack.sentAtMs)) return fresh;
  return bound;
}

/** The latest that the server's clock can show now. */
export function latestServerTime(bound: ServerBound, nowMs: number): number {
  return Math.ceil(nowMs + offsetAt(bound, nowMs));
}

/** Worker's time at which the server's clock may show `serverMs` at the earliest. */
export function earliestLocal(bound: ServerBound, serverMs: number): number {
  const drift = driftPpm / 1e6;
  const local = (serverMs - bound.offsetMs + bound.atMs * drift) / (1 + drift);
  return Math.floor(Math.min(local, serverMs - bound.offsetMs));
}

/** What a lease allows at one moment. */
export type LeaseVerdict = "start" | "run" | "stop";

/**
 * `stop` once the server's clock may have reached lease end − margin; `start` while at least twice the margin is
 * left; `run` between: nothing new starts, what runs goes on.
 */
export function judgeLease(options: {
  readonly bound: ServerBound | undefined;
  readonly leaseEndMs: number;
  readonly marginMs: number;
  readonly nowMs: number;
}): LeaseVerdict {
  // Without a bound nothing is known of the server's time: nothing starts, and the keeper's deadline stands.
  if (options.bound === undefined) return "run";
  const leftMs = options.leaseEndMs - latestServerTime(options.bound, options.nowMs);
  if (leftMs <= options.marginMs) return "stop";
  return leftMs >= 2 * options.marginMs ? "start" : "run";
}

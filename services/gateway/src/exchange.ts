import { createHash } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";

/** What auth answers for an API key. */
export interface ExchangedToken {
  readonly accessToken: string;
  readonly expiresAtMs: number;
  /** The organisation's resource name, or "" where the key has none. */
  readonly organization: string;
  readonly principal: string;
}

/** Options of {@link createKeyExchange}. */
export interface KeyExchangeOptions {
  /** Asks auth; fails with UNAUTHENTICATED or TOKEN_EXPIRED for a bad key. */
  readonly exchange: (apiKey: string) => Promise<ExchangedToken>;
  readonly clock: Clock;
  /** Age in milliseconds from which a key in use is exchanged again. */
  readonly recheckMs: number;
}

/** Turns an API key into a token, mostly from memory. */
export type KeyExchange = (apiKey: string) => Promise<ExchangedToken> | ExchangedToken;

/** Keys remembered, good or bad. */
const rememberedKeys = 10_000;
/** How long a refusal is remembered, in milliseconds: a guessing client must not reach auth with every call. */
const refusedMs = 2_000;
/** A token is not used in its last two minutes: a stream opened with it should live a while. */
const spareMs = 120_000;

interface Entry {
  token?: ExchangedToken;
  fault?: Fault;
  atMs: number;
  asking?: Promise<ExchangedToken> | undefined;
}

/**
 * Remembers exchanged keys by their hash. A key in use is exchanged again in the background once it is `recheckMs` old,
 * so a revoked one is refused here within that time; while auth is away, known keys go on until their token ends.
 */
export function createKeyExchange(options: KeyExchangeOptions): KeyExchange {
  const { clock, recheckMs } = options;
  const entries = new Map<string, Entry>();

  async function ask(apiKey: string, entry: Entry): Promise<ExchangedToken> {
    try {
      entry.token = await options.exchange(apiKey);
      delete entry.fault;
      return entry.token;
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.code === "UNAUTHENTICATED" || fault.code === "INVALID_ARGUMENT") {
        entry.fault = fault;
        delete entry.token;
      }
      throw fault;
    } finally {
      entry.atMs = clock.nowMs();
      entry.asking = undefined;
    }
  }

  function entryOf(apiKey: string): Entry {
    const hash = createHash("sha256").update(apiKey).digest("base64");
    const entry = entries.get(hash) ?? { atMs: Number.NEGATIVE_INFINITY };
    entries.delete(hash);
    entries.set(hash, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= rememberedKeys) break;
      entries.delete(oldest);
    }
    return entry;
  }

  return (apiKey) => {
    const entry = entryOf(apiKey);
    const nowMs = clock.nowMs();
    const ageMs = nowMs - entry.atMs;
    if (entry.fault !== undefined && ageMs < refusedMs) throw entry.fault;
    const usable = entry.token !== undefined && nowMs < entry.token.expiresAtMs - spareMs;
    if (usable && entry.token !== undefined && ageMs < recheckMs) return entry.token;
    entry.asking ??= ask(apiKey, entry);
    if (!usable || entry.token === undefined) return entry.asking;
    // The old token still serves this call; what came of the question, the next call sees.
    entry.asking.catch(() => undefined);
    return entry.token;
  };
}

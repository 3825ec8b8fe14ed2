import { Fault } from "@fastgpu/domain/fault";
import { beforeEach, describe, expect, test } from "vitest";
import { createKeyExchange } from "./exchange.ts";
import type { ExchangedToken, KeyExchange } from "./exchange.ts";

let time: number;
let asked: number;
let answer: () => Promise<ExchangedToken>;
let exchange: KeyExchange;

const token = (): ExchangedToken => ({
  accessToken: `token ${asked}`,
  expiresAtMs: time + 900_000,
  organization: "organizations/org-1",
  principal: "key-1",
});

beforeEach(() => {
  time = 1_000_000;
  asked = 0;
  answer = async () => token();
  exchange = createKeyExchange({
    clock: { nowMs: () => time },
    recheckMs: 60_000,
    exchange: () => {
      asked += 1;
      return answer();
    },
  });
});

/** Lets the question in the background come back. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

async function reasonOf(key: string): Promise<string> {
  try {
    return (await exchange(key)).accessToken;
  } catch (error) {
    return Fault.from(error).reason;
  }
}

describe("a good key", () => {
  test("is exchanged once by many at once", async () => {
    const tokens = await Promise.all([exchange("k"), exchange("k"), exchange("k")]);
    expect(new Set(tokens.map((one) => one.accessToken)).size).toBe(1);
    expect(asked).toBe(1);
  });

  test("is asked for again in the background, while its token serves", async () => {
    await exchange("k");
    time += 60_000;
    expect(await reasonOf("k")).toBe("token 1");
    await settle();
    expect(await reasonOf("k")).toBe("token 2");
    expect(asked).toBe(2);
  });

  test("that was revoked opens nothing after the next question", async () => {
    await exchange("k");
    answer = () => Promise.reject(new Fault("UNAUTHENTICATED", "revoked"));
    time += 60_000;
    expect(await reasonOf("k")).toBe("token 1");
    await settle();
    expect(await reasonOf("k")).toBe("UNAUTHENTICATED");
  });

  test("goes on while auth is away, until its token nears its end", async () => {
    await exchange("k");
    answer = () => Promise.reject(new Fault("UNAVAILABLE", "away"));
    for (let i = 0; i < 12; i += 1) {
      time += 60_000;
      expect(await reasonOf("k")).toBe("token 1");
      await settle();
    }
    time += 120_000;
    expect(await reasonOf("k")).toBe("UNAVAILABLE");
  });
});

describe("a bad key", () => {
  test("is refused from memory for a moment, then asked for again", async () => {
    answer = () => Promise.reject(new Fault("UNAUTHENTICATED", "unknown"));
    expect(await reasonOf("k")).toBe("UNAUTHENTICATED");
    expect(await reasonOf("k")).toBe("UNAUTHENTICATED");
    expect(asked).toBe(1);
    time += 2_000;
    answer = async () => token();
    expect(await reasonOf("k")).toBe("token 2");
  });

  test("never borrows another key's token", async () => {
    await exchange("k");
    answer = () => Promise.reject(new Fault("UNAUTHENTICATED", "unknown"));
    expect(await reasonOf("l")).toBe("UNAUTHENTICATED");
  });
});

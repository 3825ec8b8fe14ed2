import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { newId } from "@fastgpu/domain/ids";
import { apiKeyMac, formatApiKey, newApiKeyParts, parseApiKey, sameMac } from "./api-key.ts";
import { decodeBase62, encodeBase62 } from "./base62.ts";

const newParts = () => newApiKeyParts("local", newId("key", 1_790_000_000_000, randomBytes(10)));

test("base 62 gives back every byte, leading zeros included", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const text = encodeBase62(bytes, 43);
      expect(text).toMatch(/^[0-9A-Za-z]{43}$/);
      expect(decodeBase62(text, 32)).toEqual(Buffer.from(bytes));
    }),
  );
  expect(decodeBase62("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 32)).toBeUndefined();
});

test("a key reads back as the parts it was made of", () => {
  for (let i = 0; i < 200; i += 1) {
    const parts = newParts();
    const text = formatApiKey(parts);
    expect(text).toMatch(/^fgpu_local_[0-9A-Za-z]{22}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/);
    expect(parseApiKey(text)).toEqual({ kind: "key", parts });
  }
});

test("one changed, dropped or swapped character never reads as a key", () => {
  const text = formatApiKey(newParts());
  const digits = "09AZaz";
  for (let i = 0; i < text.length; i += 1) {
    expect(parseApiKey(text.slice(0, i) + text.slice(i + 1)).kind).toBe("malformed");
    for (const digit of digits) {
      const changed = text.slice(0, i) + digit + text.slice(i + 1);
      if (changed !== text) expect(parseApiKey(changed).kind).toBe("malformed");
    }
    const swapped = text.slice(0, i) + (text[i + 1] ?? "") + (text[i] ?? "") + text.slice(i + 2);
    if (swapped !== text) expect(parseApiKey(swapped).kind).toBe("malformed");
  }
});

test("arbitrary text is refused without an exception", () => {
  fc.assert(fc.property(fc.string(), (text) => parseApiKey(text).kind === "malformed"));
  fc.assert(
    fc.property(
      fc.stringMatching(/^fgpu_[0-9a-z]{1,16}_[0-9A-Za-z]{22}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/),
      (text) => ["key", "malformed"].includes(parseApiKey(text).kind),
    ),
  );
});

test("the stored MAC depends on the secret, the id, the environment and the key it is made under", () => {
  const parts = newParts();
  const hmacKey = randomBytes(32);
  const mac = apiKeyMac(hmacKey, parts);
  expect(sameMac(mac, apiKeyMac(hmacKey, parts))).toBe(true);
  const others = [
    apiKeyMac(hmacKey, { ...parts, secret: randomBytes(32) }),
    apiKeyMac(hmacKey, { ...parts, keyId: newParts().keyId }),
    apiKeyMac(hmacKey, { ...parts, env: "prod" }),
    apiKeyMac(randomBytes(32), parts),
  ];
  for (const other of others) expect(sameMac(mac, other)).toBe(false);
  expect(sameMac(mac, mac.subarray(1))).toBe(false);
});

import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** A certificate that signs itself, with its key; both PEM. */
export interface TestCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

/**
 * A self-signed Ed25519 certificate for `localhost` and 127.0.0.1, valid for a day: its own authority, server and client
 * at once. Written out in DER (X.690, RFC 5280), since neither Node nor a bare machine has a tool for it.
 */
export function createTestCertificate(): TestCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const algorithm = sequence(oid(0x2b, 0x65, 0x70));
  const name = sequence(set(sequence(oid(0x55, 0x04, 0x03), tlv(0x0c, Buffer.from("localhost")))));
  const nowMs = Date.now();
  const dayMs = 86_400_000;
  const alternativeNames = sequence(
    tlv(0x82, Buffer.from("localhost")),
    tlv(0x87, Buffer.from([127, 0, 0, 1])),
  );
  const authority = sequence(tlv(0x01, Buffer.from([0xff])));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([0x01]), randomBytes(8)])),
    algorithm,
    name,
    sequence(time(nowMs - dayMs), time(nowMs + dayMs)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    tlv(
      0xa3,
      sequence(
        sequence(oid(0x55, 0x1d, 0x11), tlv(0x04, alternativeNames)),
        sequence(oid(0x55, 0x1d, 0x13), tlv(0x01, Buffer.from([0xff])), tlv(0x04, authority)),
      ),
    ),
  );
  const signature = tlv(0x03, Buffer.concat([Buffer.from([0]), sign(null, body, privateKey)]));
  const base64 = sequence(body, algorithm, signature).toString("base64");
  const lines = base64.match(/.{1,64}/g) ?? [];
  return {
    certPem: ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n"),
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

function tlv(tag: number, ...content: readonly Buffer[]): Buffer {
  const value = Buffer.concat(content);
  const { length } = value;
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), value]);
}

const sequence = (...content: readonly Buffer[]): Buffer => tlv(0x30, ...content);
const set = (...content: readonly Buffer[]): Buffer => tlv(0x31, ...content);
/** An object identifier whose bytes are already encoded. */
const oid = (...bytes: readonly number[]): Buffer => tlv(0x06, Buffer.from(bytes));
/** A time as GeneralizedTime, `20260101000000Z`. */
const time = (ms: number): Buffer =>
  tlv(0x18, Buffer.from(new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, "")));

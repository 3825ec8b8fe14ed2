const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const valueOf = new Map([...alphabet].map((char, value) => [char, BigInt(value)] as const));

/** Bytes as a big-endian number in base 62, left-padded to `length` digits. */
export function encodeBase62(bytes: Uint8Array, length: number): string {
  let value = bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  let text = "";
  while (value > 0n) {
    text = alphabet.charAt(Number(value % 62n)) + text;
    value /= 62n;
  }
  if (text.length > length) throw new RangeError(`does not fit into ${length} digits`);
  return text.padStart(length, "0");
}

/** Undoes {@link encodeBase62}: `size` bytes, or undefined where a digit is unknown or the number is too large. */
export function decodeBase62(text: string, size: number): Buffer | undefined {
  let value = 0n;
  for (const char of text) {
    const digit = valueOf.get(char);
    if (digit === undefined) return undefined;
    value = value * 62n + digit;
  }
  const hex = value.toString(16).padStart(2 * size, "0");
  return hex.length === 2 * size ? Buffer.from(hex, "hex") : undefined;
}

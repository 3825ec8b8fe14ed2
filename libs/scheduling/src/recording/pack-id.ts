/** Crockford's alphabet, in which ids are written. */
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const valueOf = new Map([...alphabet].map((letter, value) => [letter, value]));

/** An id as its prefix and the 128 bits behind it; undefined for what does not have that form. */
export function packId(text: string): { prefix: string; bytes: Uint8Array } | undefined {
  const split = text.length - 26;
  if (split < 2 || text[split - 1] !== "-" || text.charCodeAt(split) > 0x37) return undefined;
  const bytes = new Uint8Array(16);
  let held = 0;
  let bits = -2;
  let at = 0;
  for (let index = split; index < text.length; index += 1) {
    const value = valueOf.get(text[index] ?? "");
    if (value === undefined) return undefined;
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = held >> bits;
      held &= (1 << bits) - 1;
    }
  }
  return { prefix: text.slice(0, split - 1), bytes };
}

/** The text of a packed id. */
export function unpackId(prefix: string, bytes: Uint8Array): string {
  let text = "";
  let held = 0;
  // 130 bits in 26 letters: two zeros stand before the 128.
  let bits = 2;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[held >> bits];
      held &= (1 << bits) - 1;
    }
  }
  return `${prefix}-${text}`;
}

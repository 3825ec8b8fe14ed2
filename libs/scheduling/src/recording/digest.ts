/**
 * A digest of 64 bits over words and texts, for finding differences, not for defence: two lanes of multiply and rotate
 * with the final mix of MurmurHash3 (Appleby, public domain).
 */
export class Digest {
  private low = 0x9e3779b9;
  private high = 0x85ebca6b;

  /** A whole number of 32 bits. */
  number(value: number): void {
    this.low = Math.imul(this.low ^ value, 0xcc9e2d51);
    this.low = (this.low << 15) | (this.low >>> 17);
    this.high = Math.imul(this.high ^ value ^ this.low, 0x1b873593);
    this.high = (this.high << 13) | (this.high >>> 19);
  }

  /** A text: its length, then its code units. */
  text(value: string): void {
    this.number(value.length);
    for (let at = 0; at < value.length; at += 1) this.number(value.charCodeAt(at));
  }

  /** 32 of the bits. */
  word(): number {
    return finish(this.low ^ finish(this.high));
  }

  /** All of them, 16 letters. */
  hex(): string {
    const low = finish(this.low ^ this.high);
    const high = finish(this.high + low);
    return [high, low].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

function finish(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

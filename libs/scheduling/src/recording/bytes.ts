/** Bytes that grow as they are written. */
export class ByteSink {
  private bytes = new Uint8Array(4_096);
  private length = 0;

  /** One byte, 0 to 255. */
  byte(value: number): void {
    this.room(1);
    this.bytes[this.length++] = value;
  }

  /** A whole number from 0 to 2⁵³ − 1, seven bits a byte, the lowest first. */
  varint(value: number): void {
    this.room(8);
    let rest = value;
    while (rest > 0x7f) {
      this.bytes[this.length++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.length++] = rest;
  }

  /** A double, little-endian; every bit of it is kept. */
  double(value: number): void {
    scratch.setFloat64(0, value, true);
    this.raw(scratchBytes);
  }

  /** Bytes as they are. */
  raw(value: Uint8Array): void {
    this.room(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
  }

  /** A string by its code units, one to three bytes each: whatever the string, it comes back the same. */
  text(value: string): void {
    this.varint(value.length);
    this.room(value.length * 3);
    for (let at = 0; at < value.length; at += 1) {
      const unit = value.charCodeAt(at);
      if (unit < 0x80) this.bytes[this.length++] = unit;
      else if (unit < 0x800) {
        this.bytes[this.length++] = 0xc0 | (unit >> 6);
        this.bytes[this.length++] = 0x80 | (unit & 0x3f);
      } else {
        this.bytes[this.length++] = 0xe0 | (unit >> 12);
        this.bytes[this.length++] = 0x80 | ((unit >> 6) & 0x3f);
        this.bytes[this.length++] = 0x80 | (unit & 0x3f);
      }
    }
  }

  /** What was written since the last call, as a copy. */
  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    // A snapshot of a large fleet should not keep its room for good.
    if (this.bytes.length > 1 << 20) this.bytes = new Uint8Array(4_096);
    return taken;
  }

  private room(count: number): void {
    const wanted = this.length + count;
    if (wanted <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(wanted, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

const scratchBytes = new Uint8Array(8);
const scratch = new DataView(scratchBytes.buffer);

/** Reads what a {@link ByteSink} wrote. Throws RangeError where the bytes end too early. */
export class ByteSource {
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Whether all was read. */
  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.at];
    if (value === undefined) throw new RangeError("the recording ends within a value");
    this.at += 1;
    return value;
  }

  varint(): number {
    let value = 0;
    for (let unit = 1; ; unit *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
      if (unit >= 2 ** 49) throw new RangeError("a number of the recording is too long");
    }
  }

  double(): number {
    scratchBytes.set(this.raw(8));
    return scratch.getFloat64(0, true);
  }

  raw(count: number): Uint8Array {
    const end = this.at + count;
    if (end > this.bytes.length) throw new RangeError("the recording ends within a value");
    const taken = this.bytes.subarray(this.at, end);
    this.at = end;
    return taken;
  }

  text(): string {
    const length = this.varint();
    if (length > this.bytes.length - this.at)
      throw new RangeError("a text is longer than the rest");
    const parts: string[] = [];
    let units: number[] = [];
    for (let count = 0; count < length; count += 1) {
      const first = this.byte();
      if (first < 0x80) units.push(first);
      else if (first < 0xe0) units.push(((first & 0x1f) << 6) | (this.byte() & 0x3f));
      else {
        const middle = (this.byte() & 0x3f) << 6;
        units.push(((first & 0x0f) << 12) | middle | (this.byte() & 0x3f));
      }
      if (units.length === 4_096) {
        parts.push(String.fromCharCode(...units));
        units = [];
      }
    }
    return parts.join("") + String.fromCharCode(...units);
  }
}

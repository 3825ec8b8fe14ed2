const PROGRAM_HEADER_BYTES = 56;

/**
 * A 64-bit little-endian ELF program without its section table and what only that describes (symbol
 * and debug tables). The loader reads program headers alone, so it runs as before; what lies behind
 * the last loaded byte goes. Throws a RangeError for any other file.
 */
export function withoutSections(program: Buffer): Buffer {
  const isElf64 = program.readUInt32BE(0) === 0x7f454c46 && program[4] === 2 && program[5] === 1;
  if (!isElf64) throw new RangeError("not a 64-bit little-endian ELF file");
  const tableAt = Number(program.readBigUInt64LE(0x20));
  const headers = program.readUInt16LE(0x38);
  let end = tableAt + headers * PROGRAM_HEADER_BYTES;
  for (let at = tableAt, left = headers; left > 0; at += PROGRAM_HEADER_BYTES, left -= 1) {
    const offset = Number(program.readBigUInt64LE(at + 8));
    const size = Number(program.readBigUInt64LE(at + 32));
    end = Math.max(end, offset + size);
  }
  const short = Buffer.from(program.subarray(0, end));
  // e_shoff, e_shnum and e_shstrndx: there is no section table any more.
  short.writeBigUInt64LE(0n, 0x28);
  short.writeUInt16LE(0, 0x3c);
  short.writeUInt16LE(0, 0x3e);
  return short;
}

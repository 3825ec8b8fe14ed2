/**
 * Queued tasks by the million. A task is one row in typed columns, about 40 bytes with its part of the index; tasks
 * of the same queue and class form one line, and a scheduling cycle looks at the first few of each line only.
 */

import { LineTable } from "./lines.ts";

/** One queued task, as it is put in and read back. */
export interface QueuedTask {
  /** The task's UUID as 32 lower-case hex digits. */
  readonly uuid: string;
  /** The caller's number for what the task needs: tasks of one class are alike in all but their age. */
  readonly classId: number;
  /** The caller's number for the leaf queue (user). */
  readonly queueId: number;
  readonly submittedMs: number;
}

/** The tasks of one queue and class in order of arrival; a copy of how it stood when asked. */
export interface Line {
  /** Number of the line, the same for as long as the backlog lives. */
  readonly id: number;
  readonly queueId: number;
  readonly classId: number;
  readonly length: number;
  /** Row of the first task. */
  readonly head: number;
}

const chunkBits = 16;
const chunkRows = 1 << chunkBits;
const chunkMask = chunkRows - 1;
const none = -1;
/** The `line` of a row that is not in use. */
const unused = 0xffff_ffff;

/** Columns for 65,536 rows: the table grows by whole chunks, so that little stands empty. */
interface Chunk {
  readonly uuid: Uint32Array;
  /** `unused` in a row that is not in use. */
  readonly line: Uint32Array;
  readonly submittedMs: Float64Array;
  /** Next row of the line, or of the free list. */
  readonly next: Int32Array;
}

function createChunk(): Chunk {
  return {
    uuid: new Uint32Array(4 * chunkRows),
    line: new Uint32Array(chunkRows).fill(unused),
    submittedMs: new Float64Array(chunkRows),
    next: new Int32Array(chunkRows),
  };
}

/** The queued tasks of a scheduler. */
export class Backlog {
  /** Tasks in the backlog. */
  size = 0;
  private readonly chunks: Chunk[] = [];
  private rows = 0;
  private free = none;
  private readonly lines = new LineTable();
  /** Open addressing by UUID: row + 1; 0 = never used, -1 = removed. */
  private index = new Int32Array(64);
  private filled = 0;
  private readonly words = new Uint32Array(4);

  /** Puts a task at the end of its line; answers its row, or undefined if it is queued already. */
  add(task: QueuedTask): number | undefined {
    if (4 * (this.filled + 1) > 3 * this.index.length) this.reindex();
    this.parse(task.uuid);
    const place = this.probe();
    if (this.index[place]! > 0) return undefined;
    const row = this.takeRow();
    const chunk = this.chunks[row >> chunkBits]!;
    const at = row & chunkMask;
    chunk.uuid.set(this.words, 4 * at);
    const line = this.lines.open(task.queueId, task.classId);
    chunk.line[at] = line;
    chunk.submittedMs[at] = task.submittedMs;
    chunk.next[at] = none;
    if (this.index[place] === 0) this.filled++;
    this.index[place] = row + 1;
    this.size++;
    this.append(line, row);
    return row;
  }

  /** The row of a task, or undefined. */
  find(uuid: string): number | undefined {
    this.parse(uuid);
    const entry = this.index[this.probe()]!;
    return entry > 0 ? entry - 1 : undefined;
  }

  /** Reads a row that is in use. */
  get(row: number): QueuedTask {
    const chunk = this.chunks[row >> chunkBits]!;
    const at = row & chunkMask;
    let uuid = "";
    for (let word = 0; word < 4; word++) {
      uuid += chunk.uuid[4 * at + word]!.toString(16).padStart(8, "0");
    }
    return {
      uuid,
      classId: this.lines.classId[chunk.line[at]!]!,
      queueId: this.lines.queueId[chunk.line[at]!]!,
      submittedMs: chunk.submittedMs[at]!,
    };
  }

  /** Takes a task out, wherever it stands in its line; false if it is not queued. */
  remove(uuid: string): boolean {
    this.parse(uuid);
    const place = this.probe();
    const row = this.index[place]! - 1;
    if (row < 0) return false;
    this.index[place] = -1;
    this.size--;
    const chunk = this.chunks[row >> chunkBits]!;
    const at = row & chunkMask;
    const { lines } = this;
    const line = chunk.line[at]!;
    chunk.line[at] = unused;
    lines.length[line]!--;
    // A row inside its line stays linked until it comes to the head.
    let head = lines.head[line]!;
    while (head !== none && !this.isUsed(head)) {
      const after = this.next(head);
      this.giveRow(head);
      head = after;
    }
    lines.head[line] = head;
    if (head === none) lines.tail[line] = none;
    return true;
  }

  /** The line in which a row that is in use stands. */
  lineOf(row: number): number {
    return this.chunks[row >> chunkBits]!.line[row & chunkMask]!;
  }

  /** All lines that hold a task. */
  *heads(): IterableIterator<Line> {
    for (let line = 0; line < this.lines.count; line++) {
      if (this.lines.length[line]! > 0) yield this.lineAt(line);
    }
  }

  /** The rows of a line, first to last. */
  *rowsOf(line: Line): IterableIterator<number> {
    for (let row = line.head; row !== none; row = this.next(row)) {
      if (this.isUsed(row)) yield row;
    }
  }

  /** Bytes held by the columns and the index. */
  bytes(): number {
    const [chunk] = this.chunks;
    const columns = chunk === undefined ? [] : Object.values(chunk);
    const perChunk = columns.reduce(
      (sum: number, column: Uint8Array) => sum + column.byteLength,
      0,
    );
    return this.chunks.length * perChunk + this.index.byteLength + this.lines.bytes();
  }

  /**
   * A digest of the tasks, as 16 hex digits, equal for equal sets in whatever order. `keyOf` gives a number for a
   * queue and class that means the same in both sets that are compared: their ids may have been given out otherwise.
   */
  hash(
    keyOf: (queueId: number, classId: number) => number = (queueId, classId) =>
      Math.imul(queueId, 0x01000193) ^ classId,
  ): string {
    let low = 0;
    let high = 0;
    const float = new Float64Array(1);
    const words = new Uint32Array(float.buffer);
    for (let row = 0; row < this.rows; row++) {
      if (!this.isUsed(row)) continue;
      const chunk = this.chunks[row >> chunkBits]!;
      const at = row & chunkMask;
      let a = 0x811c9dc5;
      const word = (value: number): void => {
        a = Math.imul(a ^ value, 0x01000193);
        a ^= a >>> 15;
      };
      for (let i = 0; i < 4; i++) word(chunk.uuid[4 * at + i]!);
      word(keyOf(this.lines.queueId[chunk.line[at]!]!, this.lines.classId[chunk.line[at]!]!));
      float[0] = chunk.submittedMs[at]!;
      word(words[0]!);
      word(words[1]!);
      low = (low + a) | 0;
      high = (high + Math.imul(a ^ (a >>> 16), 0x85ebca6b)) | 0;
    }
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
    return hex(high) + hex(low);
  }

  /** A line by its number. */
  lineAt(line: number): Line {
    const { queueId, classId, length, head } = this.lines;
    return {
      id: line,
      queueId: queueId[line]!,
      classId: classId[line]!,
      length: length[line]!,
      head: head[line]!,
    };
  }

  private append(line: number, row: number): void {
    const { lines } = this;
    const tail = lines.tail[line]!;
    if (tail === none) lines.head[line] = row;
    else this.chunks[tail >> chunkBits]!.next[tail & chunkMask] = row;
    lines.tail[line] = row;
    lines.length[line]!++;
  }

  private next(row: number): number {
    return this.chunks[row >> chunkBits]!.next[row & chunkMask]!;
  }

  private isUsed(row: number): boolean {
    return this.chunks[row >> chunkBits]!.line[row & chunkMask] !== unused;
  }

  private takeRow(): number {
    if (this.free !== none) {
      const row = this.free;
      this.free = this.next(row);
      return row;
    }
    if (this.rows === this.chunks.length * chunkRows) this.chunks.push(createChunk());
    return this.rows++;
  }

  private giveRow(row: number): void {
    this.chunks[row >> chunkBits]!.next[row & chunkMask] = this.free;
    this.free = row;
  }

  private parse(uuid: string): void {
    for (let word = 0; word < 4; word++) {
      this.words[word] = Number.parseInt(uuid.slice(8 * word, 8 * word + 8), 16);
    }
  }

  /** Where the parsed UUID stands in the index, or could be put. */
  private probe(): number {
    const mask = this.index.length - 1;
    const [a, b, c, d] = this.words;
    let place = Math.imul(a! ^ Math.imul(b!, 0x85ebca6b) ^ (c! >>> 3) ^ d!, 0x9e3779b1);
    place = (place ^ (place >>> 15)) & mask;
    let gap = none;
    for (;;) {
      const entry = this.index[place]!;
      if (entry === 0) return gap === none ? place : gap;
      if (entry < 0) {
        if (gap === none) gap = place;
      } else if (this.matches(entry - 1)) return place;
      place = (place + 1) & mask;
    }
  }

  private matches(row: number): boolean {
    const { uuid } = this.chunks[row >> chunkBits]!;
    const at = 4 * (row & chunkMask);
    const { words } = this;
    return (
      uuid[at + 3] === words[3] &&
      uuid[at] === words[0] &&
      uuid[at + 1] === words[1] &&
      uuid[at + 2] === words[2]
    );
  }

  /** Builds the index anew, larger where it is really full, without removed entries. */
  private reindex(): void {
    let length = 64;
    while (2 * (this.size + 1) > 1.25 * length) length *= 2;
    this.index = new Int32Array(length);
    this.filled = this.size;
    const parsed = this.words.slice();
    for (let row = 0; row < this.rows; row++) {
      if (!this.isUsed(row)) continue;
      const { uuid } = this.chunks[row >> chunkBits]!;
      const at = 4 * (row & chunkMask);
      this.words.set(uuid.subarray(at, at + 4));
      this.index[this.probe()] = row + 1;
    }
    this.words.set(parsed);
  }
}

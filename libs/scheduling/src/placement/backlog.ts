/**
 * Queued tasks by the million. A task is one row in typed columns, about 55 bytes; tasks of
 * the same queue and shape form one line, and only the head of each line is ever looked at
 * by a scheduling cycle.
 */

/** One queued task, as it is put in and read back. */
export interface QueuedTask {
  /** The task's UUID as 32 lower-case hex digits. */
  readonly uuid: string;
  /** `Shape.id`. */
  readonly shapeId: number;
  /** The caller's number for the leaf queue (user). */
  readonly queueId: number;
  /** -32,768 … 32,767; higher goes first between lines. */
  readonly priority: number;
  readonly submittedMs: number;
  /** Elements of an array task that still wait; 1 for a plain task. */
  readonly elements: number;
  /** GPU-seconds received so far by the task and its earlier attempts. */
  readonly attainedGpuSeconds: number;
}

/** The tasks of one queue and shape, oldest first. */
export interface Line {
  readonly queueId: number;
  readonly shapeId: number;
  readonly length: number;
  /** Row of the first task. */
  readonly head: number;
}

interface MutableLine {
  readonly queueId: number;
  readonly shapeId: number;
  length: number;
  head: number;
  tail: number;
}

const chunkBits = 16;
const chunkRows = 1 << chunkBits;
const chunkMask = chunkRows - 1;
const none = -1;

/** Columns for 65,536 rows: the table grows by whole chunks, so that little stands empty. */
interface Chunk {
  readonly uuid: Uint32Array;
  readonly shapeId: Uint32Array;
  readonly queueId: Uint32Array;
  readonly priority: Int16Array;
  readonly submittedMs: Float64Array;
  readonly elements: Uint32Array;
  readonly attained: Float32Array;
  /** Next row of the line, or of the free list. */
  readonly next: Int32Array;
  readonly used: Uint8Array;
}

function createChunk(): Chunk {
  return {
    uuid: new Uint32Array(4 * chunkRows),
    shapeId: new Uint32Array(chunkRows),
    queueId: new Uint32Array(chunkRows),
    priority: new Int16Array(chunkRows),
    submittedMs: new Float64Array(chunkRows),
    elements: new Uint32Array(chunkRows),
    attained: new Float32Array(chunkRows),
    next: new Int32Array(chunkRows),
    used: new Uint8Array(chunkRows),
  };
}

/** The queued tasks of a scheduler. */
export class Backlog {
  /** Tasks in the backlog. */
  size = 0;
  private readonly chunks: Chunk[] = [];
  private rows = 0;
  private free = none;
  private readonly lines = new Map<number, Map<number, MutableLine>>();
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
    chunk.shapeId[at] = task.shapeId;
    chunk.queueId[at] = task.queueId;
    chunk.priority[at] = task.priority;
    chunk.submittedMs[at] = task.submittedMs;
    chunk.elements[at] = task.elements;
    chunk.attained[at] = task.attainedGpuSeconds;
    chunk.next[at] = none;
    chunk.used[at] = 1;
    if (this.index[place] === 0) this.filled++;
    this.index[place] = row + 1;
    this.size++;
    this.append(this.line(task.queueId, task.shapeId), row);
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
      shapeId: chunk.shapeId[at]!,
      queueId: chunk.queueId[at]!,
      priority: chunk.priority[at]!,
      submittedMs: chunk.submittedMs[at]!,
      elements: chunk.elements[at]!,
      attainedGpuSeconds: chunk.attained[at]!,
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
    chunk.used[at] = 0;
    const line = this.line(chunk.queueId[at]!, chunk.shapeId[at]!);
    line.length--;
    // A row inside its line stays linked until it comes to the head.
    while (line.head !== none && !this.isUsed(line.head)) {
      const { head } = line;
      line.head = this.next(head);
      this.giveRow(head);
    }
    if (line.head === none) line.tail = none;
    return true;
  }

  /** The line of a queue and shape; its head is the next task to consider. */
  lineOf(queueId: number, shapeId: number): Line | undefined {
    return this.lines.get(queueId)?.get(shapeId);
  }

  /** All lines that hold a task. */
  *heads(): IterableIterator<Line> {
    for (const queue of this.lines.values()) {
      for (const line of queue.values()) if (line.length > 0) yield line;
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
    return this.chunks.length * perChunk + this.index.byteLength;
  }

  /** A digest of the tasks, as 16 hex digits, equal for equal sets in whatever order. */
  hash(): string {
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
      word(chunk.shapeId[at]!);
      word(chunk.queueId[at]!);
      word(chunk.priority[at]!);
      word(chunk.elements[at]!);
      for (const value of [chunk.submittedMs[at]!, chunk.attained[at]!]) {
        float[0] = value;
        word(words[0]!);
        word(words[1]!);
      }
      low = (low + a) | 0;
      high = (high + Math.imul(a ^ (a >>> 16), 0x85ebca6b)) | 0;
    }
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
    return hex(high) + hex(low);
  }

  private line(queueId: number, shapeId: number): MutableLine {
    let queue = this.lines.get(queueId);
    if (queue === undefined) this.lines.set(queueId, (queue = new Map<number, MutableLine>()));
    let line = queue.get(shapeId);
    if (line === undefined) {
      queue.set(shapeId, (line = { queueId, shapeId, length: 0, head: none, tail: none }));
    }
    return line;
  }

  private append(line: MutableLine, row: number): void {
    if (line.tail === none) line.head = row;
    else this.chunks[line.tail >> chunkBits]!.next[line.tail & chunkMask] = row;
    line.tail = row;
    line.length++;
  }

  private next(row: number): number {
    return this.chunks[row >> chunkBits]!.next[row & chunkMask]!;
  }

  private isUsed(row: number): boolean {
    return this.chunks[row >> chunkBits]!.used[row & chunkMask] === 1;
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

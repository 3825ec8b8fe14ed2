const none = -1;

function grown(column: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const next = new Int32Array(length);
  next.set(column);
  return next;
}

/** Lines of queued tasks, one per (queue, class), in columns: 20 bytes each and their index. */
export class LineTable {
  /** Lines ever opened; an empty line stays for the next task of its kind. */
  count = 0;
  queueId = new Int32Array(16);
  classId = new Int32Array(16);
  length = new Int32Array(16);
  head = new Int32Array(16);
  tail = new Int32Array(16);
  /** Open addressing: line + 1; 0 = empty. */
  private index = new Int32Array(32);

  /** The line of a queue and class, opened if need be. */
  open(queueId: number, classId: number): number {
    const place = this.probe(queueId, classId);
    const entry = this.index[place]!;
    if (entry > 0) return entry - 1;
    if (this.count === this.head.length) this.grow(Math.ceil(this.count * 1.25));
    const line = this.count++;
    this.queueId[line] = queueId;
    this.classId[line] = classId;
    this.length[line] = 0;
    this.head[line] = none;
    this.tail[line] = none;
    this.index[place] = line + 1;
    if (4 * this.count > 3 * this.index.length) this.reindex();
    return line;
  }

  /** Bytes held. */
  bytes(): number {
    return 5 * this.head.byteLength + this.index.byteLength;
  }

  private probe(queueId: number, classId: number): number {
    const mask = this.index.length - 1;
    let place = Math.imul(queueId ^ Math.imul(classId, 0x85ebca6b), 0x9e3779b1);
    place = (place ^ (place >>> 15)) & mask;
    for (;;) {
      const line = this.index[place]! - 1;
      if (line < 0) return place;
      if (this.queueId[line] === queueId && this.classId[line] === classId) return place;
      place = (place + 1) & mask;
    }
  }

  private grow(length: number): void {
    this.queueId = grown(this.queueId, length);
    this.classId = grown(this.classId, length);
    this.length = grown(this.length, length);
    this.head = grown(this.head, length);
    this.tail = grown(this.tail, length);
  }

  private reindex(): void {
    this.index = new Int32Array(2 * this.index.length);
    for (let line = 0; line < this.count; line++) {
      this.index[this.probe(this.queueId[line]!, this.classId[line]!)] = line + 1;
    }
  }
}

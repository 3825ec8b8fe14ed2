import { open, type FileHandle } from "node:fs/promises";
import { constants, createDeflateRaw, type DeflateRaw } from "node:zlib";
import { chunkOf, segmentMark, type SegmentEnd, type SegmentHeader } from "./segment.ts";

/** Frames wait at most this long before they are written. */
const flushMs = 1_000;
/** As many bytes of frames are written at once, without waiting. */
const flushBytes = 256 * 1024;
/** More than this may not wait to be written: the disk does not keep up. */
const greatestUnwritten = 8 * 1024 * 1024;

/** Writes one segment in the background: taking a frame costs no IO. Not synced: a crash loses the last second. */
export class SegmentWriter {
  /** Bytes on disk, and bytes before compression. */
  written = 0;
  taken = 0;
  private pending: Uint8Array[] = [];
  /** Bytes of `pending`, and of all that is not on disk yet. */
  private pendingBytes = 0;
  private unwritten = 0;
  private readonly file: Promise<FileHandle>;
  private readonly deflate: DeflateRaw;
  private compressed: Buffer[] = [];
  private timer: NodeJS.Timeout | undefined;
  private pumping: Promise<void> = Promise.resolve();
  private ended = false;
  private broken = false;
  private closed: Promise<void> | undefined;
  private readonly failed: (error: unknown) => void;

  /** The file is made when `ready`. `failed` is called once, where the disk refuses; nothing is written after that. */
  constructor(options: {
    path: string;
    header: SegmentHeader;
    ready: Promise<void>;
    failed: (error: unknown) => void;
  }) {
    const { path, header, ready } = options;
    this.failed = options.failed;
    this.deflate = createDeflateRaw({ level: 5 });
    this.deflate.on("data", (part: Buffer) => this.compressed.push(part));
    this.deflate.on("error", (error) => this.fail(error));
    this.file = ready.then(() => open(path, "wx", 0o600));
    const head = chunkOf("H", Buffer.from(JSON.stringify(header)));
    this.pump(() => this.append(Buffer.concat([segmentMark, head])));
  }

  /** Takes a frame. False where too much waits already: the segment must end then, for it would have a gap. */
  take(frame: Uint8Array): boolean {
    if (this.ended) return false;
    if (this.unwritten > 0 && this.unwritten + frame.length > greatestUnwritten) return false;
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(frame.length);
    this.pending.push(length, frame);
    this.pendingBytes += frame.length;
    this.unwritten += frame.length;
    this.taken += frame.length;
    if (this.pendingBytes >= flushBytes) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), flushMs).unref();
    return true;
  }

  /** Writes what waits and closes the file. */
  async end(end: SegmentEnd): Promise<void> {
    if (this.ended) {
      await this.pumping;
      return this.closed;
    }
    this.flush();
    this.ended = true;
    this.pump(() => this.append(chunkOf("E", Buffer.from(JSON.stringify(end)))));
    await this.pumping;
    await (this.closed ??= this.close());
  }

  private async close(): Promise<void> {
    clearTimeout(this.timer);
    this.deflate.close();
    await this.file.then((file) => file.close()).catch(() => undefined);
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.pending.length === 0) return;
    const frames = this.pending;
    const bytes = this.pendingBytes;
    this.pending = [];
    this.pendingBytes = 0;
    this.pump(async () => {
      this.deflate.write(Buffer.concat(frames));
      await new Promise<void>((resolve) => this.deflate.flush(constants.Z_SYNC_FLUSH, resolve));
      const body = Buffer.concat(this.compressed);
      this.compressed = [];
      await this.append(chunkOf("D", body));
      this.unwritten -= bytes;
    });
  }

  /** One write after the other; after the first that fails, none. */
  private pump(step: () => Promise<void>): void {
    this.pumping = this.pumping
      .then(() => (this.broken ? undefined : step()))
      .catch((error: unknown) => this.fail(error));
  }

  private async append(bytes: Buffer): Promise<void> {
    const file = await this.file;
    await file.appendFile(bytes);
    this.written += bytes.length;
  }

  private fail(error: unknown): void {
    if (this.broken) return;
    this.broken = true;
    this.ended = true;
    // Nobody ends a segment that has failed, and a file that the garbage collector finds open ends the process.
    this.closed ??= this.close();
    this.failed(error);
  }
}

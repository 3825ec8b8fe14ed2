import { mkdir, open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";

/** One entry of the journal: a report that the scheduler has not acknowledged. */
export interface JournalEntry {
  readonly id: bigint;
  /** When the reported thing happened, in milliseconds since the boot named. */
  readonly bootMs: number;
  readonly bootId: string;
  /** The same on the wall clock, for a journal read after a reboot. */
  readonly wallMs: number;
  /** The report, serialised, without its age. */
  readonly report: Uint8Array;
}

/** Reports on their way to the scheduler. */
export interface Journal extends AsyncDisposable {
  /** Keeps a report; resolves with its entry once a power cut cannot take it. Many callers share one fsync. */
  append(report: Omit<JournalEntry, "id">): Promise<JournalEntry>;
  /** Drops everything up to `id`: the scheduler has it. */
  acknowledge(upTo: bigint): void;
  /** What is not acknowledged and later than `id` (0 = everything), oldest first. */
  pending(after?: bigint): readonly JournalEntry[];
}

const compactAboveBytes = 1024 * 1024;

interface Waiting {
  readonly line: string;
  readonly entry: JournalEntry | undefined;
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

/**
 * Opens the journal at `path`. Each line carries a checksum; a torn last line (a crash in the middle of a write) is
 * dropped: its report was never sent. Ids only grow, also over a file that was emptied.
 */
export async function openJournal(path: string): Promise<Journal> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const found = parseJournal(await readFile(path, "utf8").catch(() => ""));
  // Ascending by id, as they were made and made durable.
  let entries = found.entries;
  const file = await open(path, "a+", 0o600);
  await file.truncate(found.validBytes);
  let bytes = found.validBytes;
  let nextId = found.nextId;
  let acknowledged = found.acknowledged;
  let waiting: Waiting[] = [];
  let flushing: Promise<void> | undefined;

  const flush = async (): Promise<void> => {
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        const text = batch.map((w) => w.line).join("");
        // An empty file says from which id on it counts, so that no id is ever used twice.
        if (entries.length === 0 && bytes > compactAboveBytes) {
          await file.truncate(0);
          bytes = 0;
          await file.appendFile(encode({ ack: String(acknowledged) }));
        }
        await file.appendFile(text);
        bytes += text.length;
        await file.datasync();
        for (const { entry } of batch) if (entry !== undefined) entries.push(entry);
        for (const { done } of batch) done();
      } catch (error) {
        for (const { failed } of batch) failed(error);
      }
    }
    flushing = undefined;
  };
  const write = (line: string, entry: JournalEntry | undefined): Promise<void> =>
    new Promise((done, failed) => {
      waiting.push({ line, entry, done, failed });
      flushing ??= flush();
    });
  return {
    async append(report) {
      const entry: JournalEntry = { ...report, id: nextId++ };
      await write(encode(rowOf(entry)), entry);
      return entry;
    },
    acknowledge(upTo) {
      if (upTo <= acknowledged) return;
      acknowledged = upTo;
      entries = entries.slice(firstAfter(entries, upTo));
      // Lost in a crash, it only makes the worker send reports again.
      void write(encode({ ack: String(upTo) }), undefined).catch(() => undefined);
    },
    pending: (after = 0n) => entries.slice(firstAfter(entries, after)),
    async [Symbol.asyncDispose]() {
      await flushing;
      await file.close();
    },
  };
}

/** Position of the first entry later than `id`, by halving. */
function firstAfter(entries: readonly JournalEntry[], id: bigint): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((entries[middle]?.id ?? 0n) <= id) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Row {
  readonly id?: string;
  readonly at?: number;
  readonly boot?: string;
  readonly wall?: number;
  readonly report?: string;
  readonly ack?: string;
}

function rowOf(entry: JournalEntry): Row {
  return {
    id: String(entry.id),
    at: entry.bootMs,
    boot: entry.bootId,
    wall: entry.wallMs,
    report: Buffer.from(entry.report).toString("base64"),
  };
}

function encode(row: Row): string {
  const json = JSON.stringify(row);
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

/** The valid beginning of a journal's text. ASCII only, so characters are bytes. */
export function parseJournal(text: string): {
  entries: JournalEntry[];
  nextId: bigint;
  acknowledged: bigint;
  validBytes: number;
} {
  const entries = new Map<bigint, JournalEntry>();
  let acknowledged = 0n;
  let highest = 0n;
  let at = 0;
  for (;;) {
    const end = text.indexOf("\n", at);
    if (end === -1) break;
    const json = text.slice(at + 9, end);
    if (crc32(json) !== Number.parseInt(text.slice(at, at + 8), 16)) break;
    const row = JSON.parse(json) as Row;
    if (row.ack !== undefined) {
      acknowledged = BigInt(row.ack);
      for (const id of entries.keys()) if (id <= acknowledged) entries.delete(id);
    } else {
      const id = BigInt(row.id ?? "0");
      highest = id;
      entries.set(id, {
        id,
        bootMs: row.at ?? 0,
        bootId: row.boot ?? "",
        wallMs: row.wall ?? 0,
        report: Buffer.from(row.report ?? "", "base64"),
      });
    }
    at = end + 1;
  }
  const last = highest > acknowledged ? highest : acknowledged;
  return { entries: [...entries.values()], nextId: last + 1n, acknowledged, validBytes: at };
}

import { appendFileSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type LogRecord, decodeFrames, encodeFrame } from "@fastgpu/domain/log-frame";
import { readLogRange } from "./reader.ts";
import { openLogWriter } from "./writer.ts";

const record: fc.Arbitrary<LogRecord> = fc.record({
  stream: fc.constantFrom("stdout", "stderr", "system"),
  timeMs: fc.nat(),
  element: fc.option(fc.nat(1_000_000), { nil: undefined }),
  sourceEnd: fc.nat(),
  data: fc.uint8Array({ maxLength: 200 }),
});

test("frames decode to what was encoded, and every cut leaves a prefix of whole frames", () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 8 }), fc.nat(), (records, cutSeed) => {
      const bytes = Buffer.concat(records.map(encodeFrame));
      const cut = bytes.length === 0 ? 0 : cutSeed % (bytes.length + 1);
      const decoded = decodeFrames(bytes.subarray(0, cut));
      const whole = decodeFrames(bytes);
      expect(whole.map((f) => ({ ...f.record, data: [...f.record.data] }))).toEqual(
        records.map((r) => ({ ...r, data: [...r.data] })),
      );
      expect(decoded.length).toBe(whole.filter((f) => f.end <= cut).length);
    }),
  );
});

test("an offset inside a frame is refused", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "log-")), "output.log");
  using log = openLogWriter(path, 1e6);
  log.append({ stream: "stdout", data: Buffer.from("hello") });
  await expect(readLogRange(path, 1, 1000)).rejects.toThrow(RangeError);
  await expect(readLogRange(path, 10_000, 1000)).rejects.toThrow(RangeError);
});

test("reading in ranges yields every record once, whatever the range size", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "log-")), "output.log");
  using log = openLogWriter(path, 1e6);
  for (let i = 0; i < 50; i += 1)
    log.append({ stream: "stderr", data: Buffer.from(`line ${i}\n`) });
  for (const maxBytes of [1, 64, 100, 1_000_000]) {
    let offset = 0;
    let text = "";
    for (;;) {
      const range = await readLogRange(path, offset, maxBytes);
      if (range.frames.length === 0) break;
      text += range.frames.map((f) => Buffer.from(f.record.data).toString()).join("");
      offset = range.nextOffset;
    }
    expect(text).toBe(Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join(""));
  }
});

test("a log cut in the middle of a frame by a crash goes on after its last whole frame", () => {
  const path = join(mkdtempSync(join(tmpdir(), "log-")), "output.log");
  {
    using log = openLogWriter(path, 1e6);
    log.append({ stream: "stdout", data: Buffer.from("kept"), sourceEnd: 77 });
  }
  appendFileSync(path, readFileSync(path).subarray(0, 33));
  using log = openLogWriter(path, 1e6);
  expect(log.sourceEnd).toBe(77);
  log.append({ stream: "stdout", data: Buffer.from("after") });
  const texts = decodeFrames(readFileSync(path)).map((f) => Buffer.from(f.record.data).toString());
  expect(texts).toEqual(["kept", "after"]);
});

test("a log past its size limit says so once and stops growing", () => {
  const path = join(mkdtempSync(join(tmpdir(), "log-")), "output.log");
  using log = openLogWriter(path, 500);
  for (let i = 0; i < 100; i += 1) log.append({ stream: "stdout", data: Buffer.alloc(100, 65) });
  const frames = decodeFrames(readFileSync(path));
  expect(frames.at(-1)?.record.stream).toBe("system");
  expect(frames.length).toBeLessThan(8);
});

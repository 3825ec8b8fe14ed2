import { setImmediate as nextTurn } from "node:timers/promises";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { goodKey, startAll } from "./harness.ts";

let all: Awaited<ReturnType<typeof startAll>>;
let channel: Channel;
beforeAll(async () => {
  all = await startAll();
  channel = createChannel({ address: all.address, token: () => Promise.resolve(goodKey) });
});
afterAll(async () => {
  channel.close();
  await all[Symbol.asyncDispose]();
});

test("an upload that its caller breaks off at any moment looks complete to no service behind", async () => {
  const storage = createClient(ArtifactService, channel);
  const { uploads } = all.seen;
  for (let call = 0; call < 80; call += 1) {
    const abort = new AbortController();
    const asked = Promise.withResolvers<void>();
    const messages = uploads.count("message") + 1 + (call % 3);
    async function* unfinished() {
      const uploadId = "0197f3a0-0000-7000-8000-000000000001";
      const value = { parent: "projects/proj-a", displayName: "file", uploadId };
      yield { part: { case: "header" as const, value } };
      for (let piece = 0; piece < 2; piece += 1) {
        yield { part: { case: "data" as const, value: new Uint8Array(50_000) } };
      }
      await asked.promise;
    }
    const sent = storage.uploadArtifact(unfinished(), { signal: abort.signal });
    sent.catch(() => undefined);
    await uploads.fired("message", messages);
    for (let turn = 0; turn < call % 7; turn += 1) await nextTurn();
    abort.abort();
    await expect(sent).rejects.toMatchObject({ reason: "CANCELLED" });
    asked.resolve();
    await Promise.race([
      uploads.fired("broken off", call + 1),
      uploads.fired("complete").catch(() => undefined),
    ]);
    expect(uploads.count("complete")).toBe(0);
  }
});

import { connect, constants } from "node:http2";
import { setImmediate as nextTurn } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  ArtifactService,
  UploadArtifactRequestSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { eventually } from "@fastgpu/testkit/signals";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createChannel } from "../src/channel.ts";
import type { Channel } from "../src/channel.ts";
import { createClient } from "../src/client.ts";
import type { Client } from "../src/client.ts";
import { service } from "../src/handlers.ts";
import type { Handlers } from "../src/handlers.ts";
import type { RunningServer } from "../src/server.ts";
import { createAuthority, serve } from "./harness.ts";
import type { Authority } from "./harness.ts";

const caller = { sub: "key-a", org: "org-a", role: "org_admin" } as const;
const unused = (): never => {
  throw new Error("not called here");
};

/** How the streams ended for the handler: "complete", or the reason of the fault that it read. */
let ends: string[] = [];
/** Runs after each message that the handler reads, told how many they are. */
let onMessage: (count: number) => void | Promise<void> = () => undefined;

const artifacts: Handlers<typeof ArtifactService> = {
  async uploadArtifact(requests) {
    let count = 0;
    try {
      for await (const _ of requests) await onMessage((count += 1));
      ends.push("complete");
    } catch (error) {
      ends.push(Fault.from(error).reason);
      throw error;
    }
    return {};
  },
  getUpload: unused,
  getArtifact: unused,
  listArtifacts: unused,
  downloadArtifact: unused,
  getManifest: unused,
};

/** A header and two pieces. */
function* upload() {
  const uploadId = "0197f3a0-0000-7000-8000-000000000001";
  const value = { parent: "projects/proj-a", displayName: "file", uploadId };
  yield { part: { case: "header" as const, value } };
  yield { part: { case: "data" as const, value: new Uint8Array(70_000) } };
  yield { part: { case: "data" as const, value: new Uint8Array(30_000) } };
}

const handlerEnds = (count: number): Promise<boolean> =>
  eventually("the handler's stream ends", () => ends.length === count);

let authority: Authority;
let server: RunningServer;
let channel: Channel;
let storage: Client<typeof ArtifactService>;

beforeAll(async () => {
  authority = await createAuthority();
  server = await serve([service(ArtifactService, artifacts)], authority.authenticator);
  channel = createChannel({ address: server.address, token: () => authority.token(caller) });
  storage = createClient(ArtifactService, channel);
});

afterAll(async () => {
  channel.close();
  await server.close(0);
});

beforeEach(() => {
  ends = [];
  onMessage = () => undefined;
});

test("a request stream whose source fails never looks complete", async () => {
  const read = Promise.withResolvers<void>();
  onMessage = (count) => (count === 3 ? read.resolve() : undefined);
  async function* broken() {
    yield* upload();
    await read.promise;
    throw new Fault("CHECKSUM_MISMATCH", "the file changed");
  }
  await expect(storage.uploadArtifact(broken())).rejects.toMatchObject({
    reason: "CHECKSUM_MISMATCH",
  });
  await handlerEnds(1);
  expect(ends).toEqual(["CANCELLED"]);
});

test("a request stream that is aborted at any moment never looks complete, not to a busy handler either", async () => {
  const calls = 150;
  for (let call = 0; call < calls; call += 1) {
    const abort = new AbortController();
    const read = Promise.withResolvers<void>();
    onMessage = async (count) => {
      if (count > call % 3) read.resolve();
      for (let turn = 0; turn < call % 11; turn += 1) await nextTurn();
    };
    const asked = Promise.withResolvers<void>();
    async function* unfinished() {
      yield* upload();
      await asked.promise;
    }
    const sent = storage.uploadArtifact(unfinished(), { signal: abort.signal });
    sent.catch(() => undefined);
    await read.promise;
    for (let turn = 0; turn < call % 7; turn += 1) await nextTurn();
    abort.abort();
    await expect(sent).rejects.toMatchObject({ reason: "CANCELLED" });
    asked.resolve();
    await handlerEnds(call + 1);
  }
  expect(new Set(ends)).toEqual(new Set(["CANCELLED"]));
});

test.each([constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_CANCEL])(
  "a request stream that a foreign client resets with code %i never looks complete",
  async (code) => {
    const session = connect(`http://${server.address}`);
    const stream = session.request(
      {
        ":method": "POST",
        ":path": "/fastgpu.storage.v1.ArtifactService/UploadArtifact",
        "content-type": "application/grpc",
        te: "trailers",
        authorization: `Bearer ${await authority.token(caller)}`,
      },
      { endStream: false },
    );
    stream.on("error", () => undefined);
    const read = Promise.withResolvers<void>();
    onMessage = (count) => (count === 3 ? read.resolve() : undefined);
    for (const message of upload()) {
      const bytes = toBinary(
        UploadArtifactRequestSchema,
        create(UploadArtifactRequestSchema, message),
      );
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(bytes.length, 1);
      stream.write(Buffer.concat([prefix, bytes]));
    }
    await read.promise;
    // As libraries of other languages do: a reset, and no end before it.
    stream.end = () => stream;
    stream.close(code);
    await handlerEnds(1);
    expect(ends).toEqual(["CANCELLED"]);
    session.destroy();
  },
);

test("a request stream that ends is complete", async () => {
  await storage.uploadArtifact(
    (async function* () {
      yield* upload();
    })(),
  );
  expect(ends).toEqual(["complete"]);
});
